"""mlrec-shards make --dry-run: what a raw folder holds, and how large it will be when packed; nothing is written."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from shards_tools.items import ItemJob, pack_item
from shards_tools.make import open_source, plan
from shards_tools.settings import Settings

SAMPLED_ITEMS = 8
"""Items, spread over the catalogue, that are packed in memory; decoding the frames of a video takes a second."""
INTERACTION_BYTES = 4
"""Of sequence shards: the item; with times three times as much."""


def describe(raw_root: str | Path, settings: Settings) -> list[str]:
    """The lines of the report.

    Raises:
        ValueError: the raw folder is not one, or no user is left.
    """
    planned = plan(open_source(raw_root), settings)
    jobs, sequences, media = planned.jobs, planned.sequences, planned.media
    lines = [
        f"{planned.raw.pairs}: {len(sequences.users):,} users with {settings.min_interactions} or more interactions, "
        f"{len(sequences.items):,} interactions, {len(jobs):,} items"
    ]
    parts = {"videos": [job.video for job in jobs], "covers": [job.cover for job in jobs], "audio": [job.audio for job in jobs]}
    there = {"videos": media.kind != "none", "covers": media.has_cover, "audio": media.has_audio}
    for name, urls in parts.items():
        missing = [job.raw_id for job, url in zip(jobs, urls, strict=True) if url is None]
        named = f" (raw ids {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})" if missing else ""
        found = f"{len(jobs) - len(missing):,} found, {len(missing):,} missing{named}" if there[name] else "no such folder"
        lines.append(f"{name}: {found}")
    readable = [job for job in jobs if job.video is not None] if there["videos"] else jobs
    lines.append(_size(readable, len(sequences.items) * INTERACTION_BYTES * (1 if sequences.times is None else 3), settings))
    return lines


def _size(jobs: list[ItemJob], sequence_bytes: int, settings: Settings) -> str:
    """The line on the packed size, extrapolated from some of the items."""
    places = np.unique(np.linspace(0, len(jobs) - 1, SAMPLED_ITEMS, dtype=np.int64)).tolist() if jobs else []
    packed = [sample for sample, _ in (pack_item(jobs[place]) for place in places) if sample]
    sizes = [sum(map(_in_tar, sample.values())) for sample in packed]
    failed = (
        f"; {len(places) - len(packed)} of {len(places)} items looked at cannot be decoded" if len(packed) < len(places) else ""
    )
    if not sizes:
        return f"packed: no item can be packed{failed}"
    total = float(np.mean(sizes)) * len(jobs) + sequence_bytes
    shards = -(-len(jobs) // settings.items_per_shard)
    return f"packed: about {total / 1e6:,.1f} MB, by {len(sizes)} items packed in memory, in {shards:,} item shards{failed}"


def _in_tar(data: bytes) -> int:
    """Bytes of a member in a tar file, its header included."""
    return tarfile.BLOCKSIZE * (1 + -(-len(data) // tarfile.BLOCKSIZE))
