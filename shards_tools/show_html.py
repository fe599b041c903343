"""A data set as one page: items with their frames, distributions, and failures."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlrec import storage
from mlrec.config import DataConfig
from mlrec.data.format import (
    FAILURES_FILE,
    Catalogue,
    DatasetInfo,
    read_catalogue,
    read_dataset_info,
)
from mlrec.data.item_store import ItemStore
from mlrec.data.pictures import Pictures
from mlrec.data.sequences import open_sequences
from mlrec.report.page import Drawing, Picture, picture, render
from mlrec.report.svg import histogram
from mlrec.report.tables import Row, Table
from mlrec.runtime.progress import track
from mlrec.runtime.redact import scrub
from shards_tools.pack.items import read_failures
from shards_tools.show import describe, facts

ITEMS_SHOWN = 48
FRAMES_SHOWN = 5
SIDE_PX = 96
FAILURES_SHOWN = 200
MOST_UNIT_BINS = 24


def write_sheet(url: str, out: str) -> None:
    """Write the page of the data set at `url` to `out`, any URL that ends in .html.

    Raises:
        ValueError: there is no data set, or `out` has another ending.
    """
    if not out.endswith(".html"):
        raise ValueError(f"--html {out} must end in .html")
    info = read_dataset_info(url)
    catalogue = read_catalogue(url, info)
    cache_dir = Path(DataConfig.cache_dir)
    pictures = Pictures(ItemStore(url, info, catalogue, cache_dir, DataConfig.cache_bytes), info)
    lengths = np.diff(open_sequences(url, info, catalogue.ok_N1, cache_dir).offsets)
    readable = np.flatnonzero(catalogue.ok_N1)
    failures = _failures(url, info)
    values = {
        "title": info.name,
        "url": scrub(url),
        "facts": _facts(url),
        "items": _items(catalogue, readable, pictures),
        "num_items": f"{len(readable):,}",
        "distributions": _distributions(catalogue, readable, lengths),
        "failures": failures.table,
        "num_failures": f"{failures.total:,}",
        "failures_are_cut": failures.total > len(failures.table.rows),
        "failures_file": FAILURES_FILE,
    }
    storage.write_bytes(out, render("dataset.html", values, package="shards_tools").encode())


def _facts(url: str) -> Table:
    rows = []
    for group in facts(describe(url)):
        rows += [Row(name, (value,), is_run=False) for name, value in group.items()]
    return Table("", ("",), tuple(rows), is_numeric=False)


def _distributions(
    catalogue: Catalogue, readable: np.ndarray, lengths: np.ndarray
) -> list[Drawing]:
    """Draw how lengths and popularity are spread.

    Args:
        readable: int64, ids of the items that were packed.
        lengths: int64 [users], interactions of each user.
    """
    title_lengths = []
    kilobytes = []
    for item in readable.tolist():
        title_lengths.append(len(catalogue.title(item)))
        kilobytes.append(sum(member.size for member in catalogue.members(item)) // 1000)
    titles_n = np.asarray(title_lengths)
    kilobytes_n = np.asarray(kilobytes)
    popularity_n = catalogue.popularity_N1[readable]
    contents = "kB of frames, cover, title and audio"
    return [
        histogram(*binned(lengths), "Users by the length of their history", "interactions"),
        histogram(*binned(popularity_n), "Items by popularity", "training interactions"),
        histogram(*binned(titles_n), "Items by the length of their title", "characters"),
        histogram(*binned(kilobytes_n), "Items by size", contents),
    ]


def binned(values: np.ndarray) -> tuple[list[str], list[int]]:
    """Numbers of 0 or more in bins, without empty ends: labels and counts.

    Each of few numbers has a bin; of many the widths grow: 0, 1, 2-4, 5-9, 10-19, ...
    """
    if not len(values):
        return [], []
    low, high = int(values.min()), int(values.max())
    if high - low < MOST_UNIT_BINS:
        return [str(number) for number in range(low, high + 1)], np.bincount(values - low).tolist()
    starts = [0, *(digit * 10**power for power in range(len(str(high))) for digit in (1, 2, 5))]
    bins = np.searchsorted(starts, values, side="right") - 1
    first, last = int(bins.min()), int(bins.max())
    counts = np.bincount(bins, minlength=len(starts))[first : last + 1].tolist()
    ends = [*starts[1:], starts[-1] * 2]
    pairs = list(zip(starts, ends, strict=True))[first : last + 1]
    return [
        _short(low) if high == low + 1 else f"{_short(low)}-{_short(high - 1)}"
        for low, high in pairs
    ], counts


def _short(number: int) -> str:
    return f"{number / 1000:.0f}k" if number >= 1000 else str(number)


def _items(catalogue: Catalogue, readable: np.ndarray, pictures: Pictures) -> list[Picture]:
    """Draw items, evenly spaced from the most to the least popular."""
    by_popularity = readable[np.argsort(-catalogue.popularity_N1[readable], kind="stable")]
    num_shown = min(ITEMS_SHOWN, len(by_popularity))
    places = np.linspace(0, len(by_popularity) - 1, num_shown).astype(int)
    frames = FRAMES_SHOWN if pictures.media.kind != "none" else 1
    if pictures.media.kind == "frames":
        frames = min(frames, pictures.media.frames)
    shown = []
    for item in track(by_popularity[places].tolist(), "drawing items"):
        jpeg = pictures.jpeg(item, frames, SIDE_PX) if pictures.has_any else None
        raw_id = catalogue.table["raw_id"][item - 1].as_py()
        popularity = catalogue.popularity_N1[item]
        shown.append(picture(jpeg, f"{raw_id}: {catalogue.title(item)} ({popularity:,})"))
    return shown


class Failures(NamedTuple):
    """Raw files that could not be packed."""

    table: Table
    """The first FAILURES_SHOWN of them."""
    total: int


def _failures(url: str, info: DatasetInfo) -> Failures:
    file = storage.join(url, FAILURES_FILE)
    raw = storage.read_bytes(file) if info.has(FAILURES_FILE) else b""
    rows = []
    for failure in islice(read_failures(raw, file), FAILURES_SHOWN):
        rows.append(Row(failure.raw_id, (failure.kind, failure.reason), is_run=False))
    table = Table("raw id", ("file", "reason"), tuple(rows), is_numeric=False)
    return Failures(table, len(raw.splitlines()))
