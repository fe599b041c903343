"""mlrec-shards make --dry-run: what a raw folder holds, and how large it will be when packed; nothing is written."""

from __future__ import annotations

import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from mlrec.runtime.progress import track
from shards_tools.make import open_source, plan
from shards_tools.pack.items import ItemJob, crashed_item, pack_item
from shards_tools.pack.pool import map_ordered
from shards_tools.pack.settings import Settings

SAMPLED_ITEMS = 8
"""Items, spread over the catalogue, that are packed in memory; decoding the frames of a video takes a second."""
INTERACTION_BYTES = 4
"""Of sequence shards: the item; with times three times as much."""


def figures(raw_root: str | Path, settings: Settings) -> dict[str, Any]:
    """What the raw folder holds and comes to, for programs; units are in the keys.

    Raises:
        ValueError: the raw folder is not one, or no user is left.
    """
    planned = plan(open_source(raw_root), settings)
    jobs, sequences, media = planned.jobs, planned.sequences, planned.media
    parts = {
        "videos": [job.video for job in jobs] if media.kind != "none" else None,
        "covers": [job.cover for job in jobs] if media.has_cover else None,
        "audio": [job.audio for job in jobs] if media.has_audio else None,
        "titles": [job.title for job in jobs] if planned.raw.titles is not None else None,
    }
    missing = {
        name: None
        if found is None
        else [job.raw_id for job, part in zip(jobs, found, strict=True) if not part]
        for name, found in parts.items()
    }
    readable = [job for job in jobs if job.video is not None] if media.kind != "none" else jobs
    sequence_bytes = (
        len(sequences.items) * INTERACTION_BYTES * (1 if sequences.times is None else 3)
    )
    return {
        "pairs": planned.raw.pairs,
        "min_interactions": settings.min_interactions,
        "users": len(sequences.users),
        "interactions": len(sequences.items),
        "items": len(jobs),
        "missing": missing,
        "item_shards": -(-len(jobs) // settings.items_per_shard),
        **_size(readable, sequence_bytes),
    }


def _size(jobs: list[ItemJob], sequence_bytes: int) -> dict[str, Any]:
    """The packed size, extrapolated from some of the items."""
    places = (
        np.unique(np.linspace(0, len(jobs) - 1, SAMPLED_ITEMS, dtype=np.int64)).tolist()
        if jobs
        else []
    )
    # in a process of its own, as make does it: a file may crash its decoder
    with closing(
        map_ordered(pack_item, [jobs[place] for place in places], 1, crashed_item)
    ) as results:
        packed = [
            sample for sample, _ in track(results, "packing some items", len(places)) if sample
        ]
    sizes = [sum(map(_in_tar, sample.values())) for sample in packed]
    total_bytes = round(float(np.mean(sizes)) * len(jobs) + sequence_bytes) if sizes else None
    return {
        "sampled_items": len(places),
        "sampled_items_failed": len(places) - len(sizes),
        "bytes": total_bytes,
    }


def describe(found: dict[str, Any]) -> list[str]:
    """The same in words, in lines."""
    lines = [
        f"{found['pairs']}: {found['users']:,} users with {found['min_interactions']} or more interactions, "
        f"{found['interactions']:,} interactions, {found['items']:,} items"
    ]
    for name, missing in found["missing"].items():
        if missing is None:
            lines.append(f"{name}: no such {'file' if name == 'titles' else 'folder'}")
            continue
        named = (
            f" (raw ids {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})"
            if missing
            else ""
        )
        lines.append(
            f"{name}: {found['items'] - len(missing):,} found, {len(missing):,} missing{named}"
        )
    sampled, bad = found["sampled_items"], found["sampled_items_failed"]
    failed = f"; {bad} of {sampled} items looked at cannot be decoded" if bad else ""
    if found["bytes"] is None:
        return [*lines, f"packed: no item can be packed{failed}"]
    packed = (
        f"packed: about {found['bytes'] / 1e6:,.1f} MB, by {sampled - bad} items packed in memory"
    )
    return [*lines, f"{packed}, in {found['item_shards']:,} item shards{failed}"]


def _in_tar(data: bytes) -> int:
    """Bytes of a member in a tar file, its header included."""
    return tarfile.BLOCKSIZE * (1 + -(-len(data) // tarfile.BLOCKSIZE))
