"""Sizes and durations in words."""

from __future__ import annotations


def megabytes(size_bytes: float) -> str:
    """Return a size in MB: "12,345.6 MB"."""
    return f"{size_bytes / 1e6:,.1f} MB"


def megabytes_or_gigabytes(size_bytes: float) -> str:
    """Return a size in MB below 1 GB, and in GB above: "123.4 MB", "1.23 GB"."""
    return f"{size_bytes / 1e9:,.2f} GB" if size_bytes >= 1e9 else megabytes(size_bytes)


def rounded_size(size_bytes: float) -> str:
    """Return a size in whole MB below 10 GB, and in GB above: "123 MB", "12.3 GB"."""
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e10 else f"{size_bytes / 1e6:,.0f} MB"


def clock(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    minutes, rest_s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest_s:02d}"
