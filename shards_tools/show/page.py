"""A data set as one HTML page: accounts, distributions, items with their frames, and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlrec import storage
from mlrec.config import DataConfig
from mlrec.data.format import (
    FAILURES_FILE,
    Catalogue,
    DatasetInfo,
    SplitInfo,
    read_catalogue,
    read_dataset_info,
)
from mlrec.data.item_store import ItemStore
from mlrec.data.open_sequences import open_sequences
from mlrec.data.pictures import Pictures, Strip
from mlrec.data.spacing import evenly_spaced
from mlrec.report.page import Picture, picture, render
from mlrec.runtime.printable import counted, printable
from mlrec.runtime.progress import track
from mlrec.runtime.redact import scrub
from mlrec.runtime.units import megabytes
from shards_tools.pack.reasons import Reason, read_reasons
from shards_tools.pack.records import FAILURE_COUNTS, Kind
from shards_tools.show.accounts import accounts, num_packed, percentage, split_account
from shards_tools.show.facts import QUANTILES, media_in_words
from shards_tools.show.measures import Measure, measures_of

MAX_ITEMS = 48
"""Number of items on the page."""
MAX_FRAMES = 5
"""Number of frames of an item."""
FRAME_SIDE_PX = 96
MAX_REASONS = 50
"""Number of reasons for failures on the page."""
MAX_RAW_IDS = 40
"""Number of raw ids of each reason."""
MAX_ID_CHARACTERS = 60


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
    sequences = open_sequences(url, info, catalogue.ok_N1, cache_dir)
    readable = np.flatnonzero(catalogue.ok_N1)
    items = _items(catalogue, readable, pictures)
    measures = measures_of(catalogue, readable, np.diff(sequences.offsets))
    reasons = read_reasons(url, info, MAX_RAW_IDS)
    values = {
        "title": info.name,
        "url": scrub(url),
        "overview": _overview(info, catalogue),
        "accounts": accounts(info, catalogue),
        "split": split_account(info, catalogue, sequences),
        "split_rule": _split_rule(info.split),
        "quantiles": tuple(QUANTILES),
        "measures": [*measures, *_clip_lengths(items)],
        "distributions": [measure.histogram() for measure in measures],
        "items": items,
        "num_items": f"{len(readable):,}",
        "failures": _failures(reasons),
        "num_more_reasons": max(len(reasons) - MAX_REASONS, 0),
        "failures_file": FAILURES_FILE,
        "notes": {
            "Files that mlrec-shards make read": info.sources,
            "Remarks of mlrec-shards make": info.remarks,
        },
    }
    storage.write_bytes(out, render("dataset.html", values, package="shards_tools").encode())


def _overview(info: DatasetInfo, catalogue: Catalogue) -> dict[str, str]:
    """Return the main facts by name."""
    counts = info.counts
    popularity = catalogue.popularity_N1[catalogue.ok_N1]
    num_cold = int((popularity == 0).sum())
    overview = {
        "users": f"{counts['users']:,}",
        "interactions": f"{counts['interactions']:,}",
        "items": f"{num_packed(info):,}",
        "cold items": f"{num_cold:,} ({percentage(num_cold, len(popularity))}), "
        "without training interactions",
        "media": media_in_words(info.media),
    }
    for name, width in info.media.features.items():
        overview[f"features {name}"] = f"width {width:,}"
    overview["size"] = f"{megabytes(info.num_bytes)} in {counted(info.num_files, 'file')}"
    # 16 of 64 digits are enough to compare by eye
    overview["fingerprint"] = info.fingerprint[:16]
    return overview


def _split_rule(split: SplitInfo) -> str:
    """Return how interactions are split, in sentences."""
    kind = "Leave-one-out"
    if split.kind == "time":
        kind = f"By time: {split.cut_offs_in_words()}"
    least = counted(split.min_interactions, "interaction")
    return f"{kind}. Every user has at least {least}, of which the last {split.keep_last} are used."


@dataclass(frozen=True)
class ShownItem:
    """An item on the page."""

    picture: Picture
    raw_id: str
    title: str
    popularity: str
    num_frames: int
    """Number of frames that are stored of it; 0 for a cover and without a picture."""


def _clip_lengths(items: Sequence[ShownItem]) -> list[Measure]:
    """Return the lengths of the shown clips, unless all items have as many frames."""
    lengths = [item.num_frames for item in items if item.num_frames]
    if len(set(lengths)) < 2:
        return []
    name = "clip length"
    return [Measure(name, f"frames, of {counted(len(lengths), 'item')} shown", np.asarray(lengths))]


def _items(catalogue: Catalogue, readable: np.ndarray, pictures: Pictures) -> list[ShownItem]:
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
        strip = pictures.strip(item, frames, FRAME_SIDE_PX) if pictures.has_any else None
        raw_id = str(catalogue.table["raw_id"][item - 1].as_py())
        title = catalogue.title(item)
        drawn.append(
            ShownItem(
                picture(strip and strip.jpeg, "", alt=alt_text(raw_id, title, strip)),
                raw_id,
                title,
                counted(int(catalogue.popularity_N1[item]), "training interaction"),
                strip.num_frames if strip else 0,
            )
        )
    return drawn


def alt_text(raw_id: str, title: str, strip: Strip | None) -> str:
    """Return the text that stands for a picture: item, title and the numbers of its frames."""
    item = f"Item {raw_id}, {title}" if title else f"Item {raw_id}, without a title"
    if strip is None or not strip.frames:
        return f"{item}: cover"
    numbers = ", ".join(f"{number:,}" for number in strip.frames)
    noun = "frame" if len(strip.frames) == 1 else "frames"
    return f"{item}: {noun} {numbers} of {strip.num_frames:,}"


class FailedFiles(NamedTuple):
    """Raw files of a kind that could not be packed for one reason."""

    kind: Kind
    reason: str
    num_files: str
    raw_ids: list[str]
    """The first MAX_RAW_IDS of their items."""
    num_more: int
    """Number of further files."""


def _failures(reasons: Sequence[Reason]) -> dict[Kind, list[FailedFiles]]:
    """Return the first MAX_REASONS reasons by kind of file."""
    by_kind: dict[Kind, list[FailedFiles]] = {kind: [] for kind in FAILURE_COUNTS}
    for reason in reasons[:MAX_REASONS]:
        raw_ids = [printable(raw_id, MAX_ID_CHARACTERS) for raw_id in reason.raw_ids]
        num_more = reason.num_files - len(raw_ids)
        files = counted(reason.num_files, "file")
        by_kind[reason.kind].append(
            FailedFiles(reason.kind, reason.reason, files, raw_ids, num_more)
        )
    return {kind: failed for kind, failed in by_kind.items() if failed}
