"""A data set as one page to look at: items with their frames, how lengths and popularity are spread, what failed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

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
from mlrec.report.escape import in_html
from mlrec.report.page import page, picture, section, side_by_side, soft, table
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
    """Writes the page of the data set at `url` to `out`, any URL.

    Raises:
        ValueError: there is no data set, or `out` does not end in .html.
    """
    if not out.endswith(".html"):
        raise ValueError(f"--html {out} must end in .html")
    info = read_dataset_info(url)
    catalogue = read_catalogue(url, info)
    cache_dir = Path(DataConfig.cache_dir)
    pictures = Pictures(ItemStore(url, info, catalogue, cache_dir, DataConfig.cache_bytes), info)
    lengths = np.diff(open_sequences(url, info, catalogue.ok_N1, cache_dir).offsets)
    body = [
        f"<h1>{in_html(info.name)}</h1>",
        f'<p class="lead">{in_html(scrub(url))}</p>',
        _facts(url),
        _items(catalogue, pictures),
        side_by_side(_distributions(catalogue, lengths)),
        _failures(url, info),
    ]
    storage.write_bytes(out, page(info.name, body).encode())


def _facts(url: str) -> str:
    rows = (
        Row(name, (value,), is_run=False)
        for group in facts(describe(url))
        for name, value in group.items()
    )
    return section("What it holds", table(Table("", ("",), tuple(rows), is_numeric=False)))


def _distributions(catalogue: Catalogue, lengths: np.ndarray) -> Iterator[str]:
    readable = np.flatnonzero(catalogue.ok_N1)
    titles = np.asarray([len(catalogue.title(item)) for item in readable.tolist()])
    kilobytes = np.asarray(
        [
            sum(member.size for member in catalogue.members(item)) // 1000
            for item in readable.tolist()
        ]
    )
    yield histogram(*binned(lengths), "Users by the length of their history", "interactions")
    yield histogram(
        *binned(catalogue.popularity_N1[readable]), "Items by popularity", "training interactions"
    )
    yield histogram(*binned(titles), "Items by the length of their title", "characters")
    yield histogram(*binned(kilobytes), "Items by size", "kB of frames, cover, title and audio")


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


def _items(catalogue: Catalogue, pictures: Pictures) -> str:
    readable = np.flatnonzero(catalogue.ok_N1)
    by_popularity = readable[np.argsort(-catalogue.popularity_N1[readable], kind="stable")]
    shown = by_popularity[
        np.linspace(0, len(by_popularity) - 1, min(ITEMS_SHOWN, len(by_popularity))).astype(int)
    ].tolist()
    frames = FRAMES_SHOWN if pictures.media.kind != "none" else 1
    if pictures.media.kind == "frames":
        frames = min(frames, pictures.media.frames)
    figures = [
        picture(
            pictures.jpeg(item, frames, SIDE_PX) if pictures.has_any else None,
            f"{catalogue.table['raw_id'][item - 1].as_py()}: {catalogue.title(item)} ({catalogue.popularity_N1[item]:,})",
        )
        for item in track(shown, "drawing items")
    ]
    order = f"{len(shown)} of {len(readable):,} items, evenly from the most to the least popular"
    said = soft(f"{order}; in brackets their training interactions.")
    return section("Items", f'{said}<div class="sheet">{"".join(figures)}</div>')


def _failures(url: str, info: DatasetInfo) -> str:
    where = storage.join(url, FAILURES_FILE)
    raw = storage.read_bytes(where) if info.has(FAILURES_FILE) else b""
    lines = raw.splitlines()
    if not lines:
        return section("Failures", soft("None: every raw file was packed."))
    entries = list(islice(read_failures(raw, where), FAILURES_SHOWN))
    rows = (Row(entry.raw_id, (entry.kind, entry.reason), is_run=False) for entry in entries)
    said = f"{len(lines):,} raw files could not be packed."
    if len(lines) > len(entries):
        said = f"{said} These are the first {len(entries)}; {FAILURES_FILE} has all."
    content = table(Table("raw id", ("file", "reason"), tuple(rows), is_numeric=False))
    return section("Failures", soft(said) + content)
