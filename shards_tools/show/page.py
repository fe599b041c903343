"""A data set as one HTML page: items with their frames, distributions, and failures."""

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
from mlrec.data.open_sequences import open_sequences
from mlrec.data.pictures import Pictures
from mlrec.data.spacing import evenly_spaced
from mlrec.report.page import Drawing, Picture, picture, render
from mlrec.report.svg import histogram
from mlrec.report.tables import Row, Table
from mlrec.runtime.progress import track
from mlrec.runtime.redact import scrub
from shards_tools.pack.reasons import read_reasons
from shards_tools.pack.records import read_failures
from shards_tools.show.facts import describe, facts

MAX_ITEMS = 48
"""Number of items on the page."""
MAX_FRAMES = 5
"""Number of frames of an item."""
FRAME_SIDE_PX = 96
MAX_FAILURES = 200
"""Number of failures on the page."""
MAX_UNIT_BINS = 24
"""Largest range of values for which each value has a bin of its own."""


def write_page(url: str, out: str) -> None:
    """Write the page of the data set at `url` to `out`, a file or URL that ends in .html.

    Raises:
        ValueError: there is no data set, or `out` has another ending.
    """
    # before the data set is read, which may take minutes
    if not out.endswith(".html"):
        raise ValueError(f"--html {out} must end in .html")
    info = read_dataset_info(url)
    catalogue = read_catalogue(url, info)
    # the cache of training with default settings, which often has the frames already
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
        "reasons": failures.reasons,
        "num_failures": f"{failures.total:,}",
        "failures_are_cut": failures.total > len(failures.table.rows),
        "failures_file": FAILURES_FILE,
    }
    storage.write_bytes(out, render("dataset.html", values, package="shards_tools").encode())


def _facts(url: str) -> Table:
    """Return the facts as one table."""
    rows = []
    for group in facts(describe(url)):
        for name, value in group.items():
            rows.append(Row(name, (value,), is_run=False))
    return Table("", ("",), tuple(rows), is_numeric=False)


def _distributions(
    catalogue: Catalogue, readable: np.ndarray, lengths: np.ndarray
) -> list[Drawing]:
    """Draw the distributions of users and items.

    Args:
        readable: int64, ids of the packed items.
        lengths: int64 [users], interactions of each user.
    """
    title_lengths = []
    kilobytes = []
    for item in readable.tolist():
        title_lengths.append(len(catalogue.title(item)))
        # whole numbers, because bins are of whole numbers
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


class Bins(NamedTuple):
    """A histogram without empty bins at its ends."""

    labels: list[str]
    """Values of each bin."""
    counts: list[int]
    """Number of values in each bin."""


def binned(values: np.ndarray) -> Bins:
    """Return the histogram of whole numbers of 0 or more.

    In a small range each number has a bin. Otherwise the widths grow: 0, 1, 2-4, 5-9, 10-19, ...
    """
    if not len(values):
        return Bins([], [])
    low = int(values.min())
    high = int(values.max())
    if high - low < MAX_UNIT_BINS:
        labels = [str(number) for number in range(low, high + 1)]
        return Bins(labels, np.bincount(values - low).tolist())
    starts = _growing_starts(high)
    # right: a value that equals a start belongs to the bin that begins there
    bins = np.searchsorted(starts, values, side="right") - 1
    counts = np.bincount(bins, minlength=len(starts)).tolist()
    first = int(bins.min())
    last = int(bins.max())
    labels = []
    for place in range(first, last + 1):
        labels.append(_range_label(starts[place], starts[place + 1] - 1))
    return Bins(labels, counts[first : last + 1])


def _growing_starts(high: int) -> list[int]:
    """Return the starts 0, 1, 2, 5, 10, 20, ... of bins up to that of `high`, and one more."""
    starts = [0]
    # one power more than needed, so that the last bin has an end
    for power in range(len(str(high)) + 1):
        for digit in (1, 2, 5):
            starts.append(digit * 10**power)
    return starts


def _range_label(low: int, high: int) -> str:
    return _short(low) if low == high else f"{_short(low)}-{_short(high)}"


def _short(number: int) -> str:
    return f"{number / 1000:.0f}k" if number >= 1000 else str(number)


def _items(catalogue: Catalogue, readable: np.ndarray, pictures: Pictures) -> list[Picture]:
    """Draw items, evenly spaced from the most to the least popular.

    Args:
        readable: int64, ids of the packed items.
    """
    by_popularity = readable[np.argsort(-catalogue.popularity_N1[readable], kind="stable")]
    places = evenly_spaced(len(by_popularity), MAX_ITEMS)
    frames = MAX_FRAMES if pictures.media.kind != "none" else 1
    # an item cannot show more frames than were packed; a clip has any number
    if pictures.media.kind == "frames":
        frames = min(frames, pictures.media.frames)
    drawn = []
    for item in track(by_popularity[places].tolist(), "drawing items"):
        # an item without any picture keeps its caption
        jpeg = pictures.jpeg(item, frames, FRAME_SIDE_PX) if pictures.has_any else None
        raw_id = catalogue.table["raw_id"][item - 1].as_py()
        popularity = catalogue.popularity_N1[item]
        drawn.append(picture(jpeg, f"{raw_id}: {catalogue.title(item)} ({popularity:,})"))
    return drawn


class Failures(NamedTuple):
    """Raw files that could not be packed."""

    reasons: Table
    """Why they failed, the most frequent reason first."""
    table: Table
    """The first MAX_FAILURES of them."""
    total: int
    """Number of all of them."""


def _failures(url: str, info: DatasetInfo) -> Failures:
    """Return the failures of a data set, none if it has no such file."""
    file = storage.join(url, FAILURES_FILE)
    raw = storage.read_bytes(file) if info.has(FAILURES_FILE) else b""
    reasons = read_reasons(url, info)
    reason_rows = []
    for reason in reasons[:MAX_FAILURES]:
        cells = (reason.reason, f"{reason.num_files:,}", reason.examples)
        reason_rows.append(Row(reason.kind, cells, is_run=False))
    rows = []
    # a data set may have a million failures, of which a page shows the first
    for failure in islice(read_failures(raw, file), MAX_FAILURES):
        rows.append(Row(failure.raw_id, (failure.kind, failure.reason), is_run=False))
    return Failures(
        Table("file", ("reason", "files", "raw ids"), tuple(reason_rows), is_numeric=False),
        Table("raw id", ("file", "reason"), tuple(rows), is_numeric=False),
        sum(reason.num_files for reason in reasons),
    )
