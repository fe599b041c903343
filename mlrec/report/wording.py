"""Figures, durations and counts in words."""

from __future__ import annotations

from collections.abc import Sequence

NONE = "–"
BOLD = "Bold"
"""How a note names the values that lead a column alone."""
TIED = "≈"
"""Mark of the values that share the lead of a column."""


def number(value: float | None) -> str:
    """Return a metric with four decimals: ".0836"."""
    return NONE if value is None else f"{value:.4f}".removeprefix("0")


def with_error(value: float | None, error: float | None) -> str:
    """Return a metric and its uncertainty, if that is known: ".0836 ± .0012"."""
    return number(value) if error is None else f"{number(value)} ± {number(error)}"


def ratio(value: float | None, base: float | None) -> str:
    """Return a value as a multiple of a baseline."""
    return NONE if value is None or not base else f"{value / base:.2f} ×"


def share(value: float | None, base: float | None) -> str:
    """Return a value in percent of a baseline."""
    return NONE if value is None or not base else f"{100 * value / base:.0f} %"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names separated by commas; of more than `most`, only the first."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def duration(hours: float | None) -> str:
    """Return hours, or minutes below one hour."""
    if hours is None:
        return NONE
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def count_in_words(count: float) -> str:
    """Return a count with four digits: 12.35 M."""
    for unit in ("", " k", " M"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g} G"


def counts_in_words(counts: dict[str, int]) -> str:
    """Return the size of a data set."""
    names = [name for name in ("users", "items", "interactions") if name in counts]
    return ", ".join(f"{counts[name]:,} {name}" for name in names)
