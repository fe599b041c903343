"""Report what a raw folder holds and how large it will be when packed, and write nothing."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlrec.data.format import SplitInfo
from mlrec.data.spacing import evenly_spaced
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import track
from mlrec.runtime.units import megabytes
from shards_tools.pack.encoder_frames import describe_frames
from shards_tools.pack.inputs import NO_INPUTS, Inputs
from shards_tools.pack.items import ItemJob, crashed_item, pack_item
from shards_tools.pack.plan import Plan, plan, remaining_sequences
from shards_tools.pack.pool import map_ordered
from shards_tools.pack.reasons import Reason, group_by_reason, reason_lines
from shards_tools.pack.records import Failure
from shards_tools.pack.settings import Settings
from shards_tools.raw.split import describe_time_split, split_counts
from shards_tools.show.summary import cost_in_words

SAMPLED_ITEMS = 8
"""Number of items that are packed in memory. One takes about a second."""
ITEM_BYTES = 4
"""Bytes per interaction in a sequence shard without times: an int32 item."""
ITEM_AND_TIME_BYTES = 12
"""Bytes per interaction in a sequence shard with times: an int32 item and an int64 time."""
MAX_NAMED_ITEMS = 3
"""Number of missing items of each kind that are named by raw id."""


def figures(raw_root: str | Path, settings: Settings, inputs: Inputs = NO_INPUTS) -> dict[str, Any]:
    """Return what the raw folder holds and its packed size, as the document of --dry-run --json.

    Units are in the keys.

    Raises:
        ValueError: the raw folder is not one, or no user has enough interactions.
    """
    planned = plan(raw_root, settings, inputs)
    num_interactions = len(planned.sequences.items)
    has_times = planned.sequences.times is not None
    missing = _missing(planned)
    estimate = _estimate(_packable(planned))
    # None, not the size of the sequences: without items nothing can be packed
    total_bytes = None
    if estimate.bytes_of_items is not None:
        interaction_bytes = ITEM_AND_TIME_BYTES if has_times else ITEM_BYTES
        total_bytes = round(estimate.bytes_of_items + num_interactions * interaction_bytes)
    return {
        "pairs": planned.raw.pairs,
        "min_interactions": settings.min_interactions,
        "split": asdict(planned.split),
        **split_counts(planned.sequences, planned.split),
        **planned.counts,
        "items": len(planned.jobs),
        "media": asdict(planned.media),
        "missing": missing,
        "will_fail": _will_fail(planned, missing),
        "sources": planned.sources,
        "remarks": planned.remarks,
        "item_shards": len(planned.shards),
        "sampled_items": estimate.num_sampled,
        "sampled_items_failed": estimate.num_failed,
        "sampled_failures": [asdict(reason) for reason in group_by_reason(estimate.failures)],
        "bytes": total_bytes,
    }


def _will_fail(plan: Plan, missing: dict[str, list[str] | None]) -> dict[str, int]:
    """Return the number of items that will fail because they have no video, and what that costs."""
    raw_ids = set(missing["videos"] or [])
    failed = [job.item for job in plan.jobs if job.raw_id in raw_ids]
    remaining = remaining_sequences(plan, failed)
    return {
        "items": len(failed),
        "lost_interactions": len(plan.sequences.items) - len(remaining.items),
        "lost_users": len(plan.sequences.users) - len(remaining.users),
    }


def describe(figures: dict[str, Any]) -> list[str]:
    """Return the lines that describe the result of `figures` to people."""
    lines = [
        f"{figures['pairs']}: {counted(figures['users'], 'user')} "
        f"with {figures['min_interactions']} or more interactions, "
        f"{counted(figures['interactions'], 'interaction')}, {counted(figures['items'], 'item')}"
    ]
    split = SplitInfo(**figures["split"])
    if split.kind == "time":
        lines.append(describe_time_split(split, figures))
    lines += figures["sources"]
    lines += _describe_missing(figures)
    if figures["will_fail"]["items"]:
        lines.append(_describe_failing(figures))
    lines += figures["remarks"]
    if figures["media"]["kind"] == "frames":
        lines += describe_frames(figures["media"]["frames"])
    return [*lines, _describe_size(figures)]


def _describe_missing(figures: dict[str, Any]) -> list[str]:
    """Return the lines about parts that the raw folder lacks for some or all items."""
    lines = []
    absent = []
    for part, missing in figures["missing"].items():
        # None: the raw folder has no such part, or it is not packed
        if missing is None:
            absent.append(part)
        elif missing:
            names = ", ".join(missing[:MAX_NAMED_ITEMS])
            more = ", ..." if len(missing) > MAX_NAMED_ITEMS else ""
            items = f"{len(missing):,} of {counted(figures['items'], 'item')}"
            lines.append(f"{part}: missing for {items}, raw ids {names}{more}")
    if absent:
        lines.append(f"without {', '.join(absent)}")
    return lines


def _describe_failing(figures: dict[str, Any]) -> str:
    """Return the line about the items that will fail."""
    failing = figures["will_fail"]
    items = f"{failing['items']:,} of {counted(figures['items'], 'item')}"
    if failing["lost_users"] == figures["users"]:
        return f"{items} will fail without their video. No user is left: nothing can be packed"
    cost = cost_in_words(failing["lost_interactions"], failing["lost_users"])
    return f"{items} will fail without their video" + (f", which will cost {cost}" if cost else "")


def _describe_size(figures: dict[str, Any]) -> str:
    """Return the line about the size of the packed data set."""
    num_sampled = figures["sampled_items"]
    num_failed = figures["sampled_items_failed"]
    reasons = reason_lines(map(_reason, figures["sampled_failures"]), "video")
    why = f": {', '.join(reasons)}" if num_failed else ""
    if figures["bytes"] is None:
        sampled = f", judged by {num_sampled} of them" if num_sampled else ""
        return f"packed: no item can be packed{sampled}{why}"
    shards = counted(figures["item_shards"], "item shard")
    size = f"packed: about {megabytes(figures['bytes'])} in {shards}"
    failed = f", of which {num_failed} failed{why}" if num_failed else ""
    return f"{size}, by {counted(num_sampled, 'item')} packed in memory{failed}"


def _reason(values: dict[str, Any]) -> Reason:
    return Reason(**values)


def _packable(plan: Plan) -> list[ItemJob]:
    """Return the jobs of the items that are not known to fail."""
    # without a folder of videos an item is its cover, audio and title
    if plan.media.kind == "none":
        return plan.jobs
    return [job for job in plan.jobs if job.video or job.frames]


def _missing(plan: Plan) -> dict[str, list[str] | None]:
    """Return the raw ids of items without each part; None for a part that the raw folder lacks."""
    has_part: dict[str, bool] = {
        "videos": plan.media.kind != "none",
        "covers": plan.media.has_cover,
        "audio": plan.media.has_audio,
        "titles": plan.raw.titles is not None,
    }
    part_of: dict[str, Callable[[ItemJob], object]] = {
        "videos": lambda job: job.video or job.frames,
        "covers": lambda job: job.cover,
        "audio": lambda job: job.audio,
        "titles": lambda job: job.title,
    }
    missing: dict[str, list[str] | None] = {}
    for part, is_there in has_part.items():
        missing[part] = None
        # None and [] differ: a missing folder is a choice, missing files are likely a mistake
        if is_there:
            missing[part] = [job.raw_id for job in plan.jobs if not part_of[part](job)]
    for name in plan.media.features:
        without = [job.raw_id for job in plan.jobs if name not in job.features]
        missing[f"features {name}"] = without
    return missing


class _Estimate(NamedTuple):
    """The size of all items, extrapolated from a sample of them."""

    num_sampled: int
    num_failed: int
    """Number of sampled items that cannot be packed."""
    bytes_of_items: float | None
    """Bytes of all items in their shards; None if no sampled item can be packed."""
    failures: list[Failure]
    """Why raw files of the sampled items cannot be packed."""


def _estimate(jobs: list[ItemJob]) -> _Estimate:
    """Pack some of the items in memory and extrapolate their size."""
    if not jobs:
        return _Estimate(0, 0, None, [])
    places = evenly_spaced(len(jobs), SAMPLED_ITEMS)
    sampled = [jobs[place] for place in places.tolist()]
    sizes = []
    failures: list[Failure] = []
    # in a process of its own, as `make` does it: a file may crash its decoder
    with closing(map_ordered(pack_item, sampled, 1, crashed_item)) as results:
        for packed in track(results, "packing some items", len(sampled)):
            failures += packed.failures
            if packed.members:
                sizes.append(sum(map(_bytes_in_tar, packed.members.values())))
    # failed items take no space, but a failed sample says nothing about the size of others
    mean_bytes = float(np.mean(sizes)) if sizes else None
    total_bytes = None if mean_bytes is None else mean_bytes * len(jobs)
    return _Estimate(len(sampled), len(sampled) - len(sizes), total_bytes, failures)


def _bytes_in_tar(data: bytes) -> int:
    """Return the bytes that a member takes in a tar file, its header included."""
    num_blocks = -(-len(data) // tarfile.BLOCKSIZE)
    return tarfile.BLOCKSIZE * (1 + num_blocks)
