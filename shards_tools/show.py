"""What a data set holds, as a table or as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from mlrec.data.format import MediaInfo, SplitInfo, read_catalogue, read_dataset_info

QUANTILES = {"min": 0.0, "median": 0.5, "90 %": 0.9, "99 %": 0.99, "max": 1.0}
"""Of the items' training popularity."""


def describe(url: str) -> dict[str, Any]:
    """Name, counts, media, split, bytes and files by kind, and how popularity is spread.

    Raises:
        ValueError: there is no data set, or its catalogue is damaged.
    """
    info = read_dataset_info(url)
    catalogue = read_catalogue(url, info)
    popularity = catalogue.popularity_N1[catalogue.ok_N1]
    top = np.sort(popularity)[::-1][: max(1, len(popularity) // 100)]
    return {
        "name": info.name,
        "fingerprint": info.fingerprint,
        "counts": info.counts,
        "media": asdict(info.media),
        "split": asdict(info.split),
        "files": {
            folder: _sizes([file.size for file in info.shards(folder)])
            for folder in ("items", "sequences")
        },
        "popularity": {
            **{
                name: int(np.quantile(popularity, at, method="nearest"))
                for name, at in QUANTILES.items()
            },
            "cold_items": int((popularity == 0).sum()),
            "share_of_top_percent": round(float(top.sum() / popularity.sum()), 4),
        },
    }


def _sizes(sizes: list[int]) -> dict[str, int]:
    return {"shards": len(sizes), "bytes": sum(sizes)}


def facts(described: dict[str, Any]) -> list[dict[str, str]]:
    """`describe`'s result in words, in groups."""
    split, popularity = SplitInfo(**described["split"]), described["popularity"]
    held_out = f"users with {split.min_interactions} or more, last {split.keep_last} kept"
    sizes = {
        name: f"{size['bytes'] / 1e6:,.1f} MB, shards: {size['shards']:,}"
        for name, size in described["files"].items()
    }
    return [
        {
            "fingerprint": described["fingerprint"][:16],
            **{name.replace("_", " "): f"{count:,}" for name, count in described["counts"].items()},
        },
        {
            "media": _media(MediaInfo(**described["media"])),
            "split": f"{held_out}: the last is test, the one before validation",
        },
        sizes,
        {
            "training popularity": ", ".join(f"{name} {popularity[name]:,}" for name in QUANTILES),
            "cold items": f"{popularity['cold_items']:,}",
            "share of the top 1 %": f"{popularity['share_of_top_percent']:.1%}",
        },
    ]


def as_table(described: dict[str, Any]) -> Table:
    """`describe`'s result for people."""
    table = Table(title=described["name"], show_header=False, title_justify="left")
    for group in facts(described):
        for name, value in group.items():
            table.add_row(name, value)
        table.add_section()
    return table


def _media(media: MediaInfo) -> str:
    size = f"{media.size} x {media.size}"
    kinds = {
        "frames": f"{media.frames} JPEG frames of {size}, policy {media.policy}, interval {media.interval}",
        "clip": f"H.264 clips of {size}",
        "none": "no videos",
    }
    extras = [
        name
        for name, stored in {"covers": media.has_cover, "audio": media.has_audio}.items()
        if stored
    ]
    return ", ".join([kinds[media.kind], *extras])
