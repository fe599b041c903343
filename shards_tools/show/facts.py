"""What a data set holds, as JSON or as a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from mlrec.data.format import (
    Catalogue,
    DatasetInfo,
    FileInfo,
    MediaInfo,
    SplitInfo,
    read_catalogue,
    read_dataset_info,
)
from mlrec.runtime.units import megabytes
from shards_tools.pack.reasons import Reason, read_reasons, reason_lines
from shards_tools.pack.records import FAILURE_COUNTS

QUANTILES = {
    "min": 0.0,
    "5 %": 0.05,
    "25 %": 0.25,
    "median": 0.5,
    "75 %": 0.75,
    "95 %": 0.95,
    "max": 1.0,
}
"""Quantiles of a distribution, by name."""


def describe(url: str) -> dict[str, Any]:
    """Return the document of mlrec-shards show --json.

    Raises:
        ValueError: there is no data set, or its catalogue or failures are damaged.
    """
    info = read_dataset_info(url)
    catalogue = read_catalogue(url, info)
    return {
        "name": info.name,
        "fingerprint": info.fingerprint,
        "counts": info.counts,
        "failures": [asdict(reason) for reason in read_reasons(url, info)],
        "sources": info.sources,
        "remarks": info.remarks,
        "media": asdict(info.media),
        "items_with_features": _count_features(info, catalogue),
        "split": asdict(info.split),
        "files": _describe_files(info),
        "popularity": _describe_popularity(catalogue.popularity_N1[catalogue.ok_N1]),
    }


def _count_features(info: DatasetInfo, catalogue: Catalogue) -> dict[str, int]:
    """Return the number of items that have a vector, by the name of the features."""
    return {name: catalogue.items_with(f"{name}.npy") for name in info.media.features}


def _describe_files(info: DatasetInfo) -> dict[str, dict[str, int]]:
    """Return the number and size of the shards, by folder."""

    def total(files: list[FileInfo]) -> dict[str, int]:
        return {"shards": len(files), "bytes": sum(file.size for file in files)}

    return {
        "items": total(list(info.shards("items"))),
        "sequences": total(list(info.shards("sequences"))),
    }


def _describe_popularity(popularity: np.ndarray) -> dict[str, int | float]:
    """Return the distribution of popularity.

    Args:
        popularity: int64 [packed items], training interactions of each.
    """
    described: dict[str, int | float] = {**quantiles(popularity)}
    # at least one item, in catalogues below 100
    num_top = max(1, len(popularity) // 100)
    top_interactions = np.sort(popularity)[::-1][:num_top].sum()
    described["cold_items"] = int((popularity == 0).sum())
    described["share_of_top_percent"] = round(float(top_interactions / popularity.sum()), 4)
    return described


def quantiles(values: np.ndarray) -> dict[str, int]:
    """Return QUANTILES of whole numbers; none of no numbers.

    Each is one of the numbers, not a mean of two of them.
    """
    if not len(values):
        return {}
    at_shares = np.quantile(values, list(QUANTILES.values()), method="nearest")
    return dict(zip(QUANTILES, at_shares.tolist(), strict=True))


def facts(described: dict[str, Any]) -> list[dict[str, str]]:
    """Return groups of names and texts.

    Args:
        described: Result of `describe`.
    """
    # 16 of 64 digits are enough to compare by eye
    counts = {"fingerprint": described["fingerprint"][:16]}
    for name, count in described["counts"].items():
        counts[name.replace("_", " ")] = f"{count:,}"
    sizes = {}
    for folder, size in described["files"].items():
        sizes[folder] = f"{megabytes(size['bytes'])}, shards: {size['shards']:,}"
    split = SplitInfo(**described["split"])
    contents = {
        "media": media_in_words(MediaInfo(**described["media"])),
        "split": split.in_words(),
    }
    num_packed = described["counts"]["items"] - described["counts"]["failed_items"]
    for name, num_items in described["items_with_features"].items():
        width = described["media"]["features"][name]
        contents[f"features {name}"] = f"width {width:,}, {num_items:,} of {num_packed:,} items"
    popularity = described["popularity"]
    spread = {
        "training popularity": ", ".join(f"{name} {popularity[name]:,}" for name in QUANTILES),
        "cold items": f"{popularity['cold_items']:,}",
        "share of the top 1 %": f"{100 * popularity['share_of_top_percent']:.1f} %",
    }
    sources = {}
    for number, source in enumerate(described["sources"], start=1):
        sources[f"source {number}"] = source
    remarks = {}
    for number, remark in enumerate(described["remarks"], start=1):
        remarks[f"remark {number}"] = remark
    return [counts, contents, sizes, spread, sources, remarks]


def as_table(described: dict[str, Any]) -> Table:
    """Return the table for people.

    Args:
        described: Result of `describe`.
    """
    table = Table(title=described["name"], show_header=False, title_justify="left")
    for group in [*facts(described), _failures(described)]:
        for name, value in group.items():
            table.add_row(name, value)
        table.add_section()
    return table


def _failures(described: dict[str, Any]) -> dict[str, str]:
    """Return why raw files failed, by the kind of file."""
    reasons = [Reason(**reason) for reason in described["failures"]]
    failures = {}
    for kind in FAILURE_COUNTS:
        lines = reason_lines(reasons, kind)
        if lines:
            failures[f"failed {kind}"] = "\n".join(lines)
    return failures


def media_in_words(media: MediaInfo) -> str:
    """Return one line about videos, covers and audio."""
    size = f"{media.size} x {media.size}"
    # by the kinds of MediaInfo
    videos = {
        "frames": f"{media.frames} JPEG frames of {size}, policy {_policy(media)}",
        "clip": f"H.264 clips of {size}",
        "none": "no videos",
    }
    parts = [videos[media.kind]]
    if media.has_cover:
        parts.append("covers")
    if media.has_audio:
        parts.append("audio")
    return ", ".join(parts)


def _policy(media: MediaInfo) -> str:
    """Return the frame policy with what else decided on the frames."""
    # 16 of 64 digits are enough to compare by eye
    details = {
        "middle": f", interval {media.interval}",
        "title": f", CLIP weights {media.title_weights[:16]}",
    }
    return media.policy + details.get(media.policy, "")
