"""mlrec-shards bench: packing a raw folder's videos, beside decoding the same files and nothing else."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from mlrec.bench.measure import cpu_name, cpu_seconds
from mlrec.bench.result import Result
from mlrec.runtime.progress import Task, task
from shards_tools.bench_baseline import decode_bare
from shards_tools.make import open_source, plan
from shards_tools.pack.engines import pack_locally
from shards_tools.pack.items import ItemJob, read_shard_records
from shards_tools.pack.output import open_output
from shards_tools.pack.settings import Settings

FLOAT_BYTES = 4
"""Of a value in MicroLens' LMDB, which holds the frames as float32."""


def bench_packing(raw_root: str, settings: Settings, workers: int, num_items: int) -> Result:
    """Packs the first `num_items` videos into a temporary folder, and decodes them bare, twice each, in turn.

    Raises:
        ValueError: the raw folder is not one, or has no videos.
        RuntimeError: worker processes died.
    """
    if workers < 1 or num_items < 1:
        raise ValueError(f"--workers {workers} --items {num_items}: both must be 1 or more")
    planned = plan(open_source(raw_root), settings)
    jobs = [job for job in planned.jobs if job.video is not None][:num_items]
    if not jobs:
        raise ValueError(f"{raw_root} holds none of its items' videos: there is nothing to decode")
    figures = measure_packing(jobs, workers)
    measured = (
        f"packing {len(jobs)} videos of {raw_root} into {settings.media} on {workers} processes"
    )
    rows = [
        ("", "videos/s"),
        ("packing", f"{figures['videos_per_s']:,.2f}"),
        ("bare decoding of the same files", f"{figures['limit_videos_per_s']:,.2f}"),
        ("packing, of bare decoding", f"{figures['of_limit']:.0%}"),
        (
            "the same in seconds of CPU, free of other work on the cores",
            f"{figures['cpu_of_limit']:.0%}",
        ),
    ]
    sizes = [
        ("", ""),
        (
            "an item in its shard, cover and audio included",
            f"{figures['bytes_per_item'] / 1e3:,.1f} kB",
        ),
        (
            "its frames as float32, as in MicroLens' LMDB",
            f"{figures['float32_bytes_per_item'] / 1e3:,.1f} kB",
        ),
        ("times smaller", f"{figures['times_smaller']:,.1f}"),
    ]
    return Result("pack", measured, cpu_name(), figures, [rows, sizes])


def measure_packing(jobs: Sequence[ItemJob], workers: int) -> dict[str, Any]:
    """Figures of packing the jobs into one shard by the engine of one machine."""
    packed_s = bare_s = packed_cpu_s = bare_cpu_s = 0.0
    rounds = (False, True, True, False)  # so that neither has the quieter half of the run
    with task("packing, and decoding bare", len(rounds) * len(jobs)) as under_way:
        for packs in rounds:
            began, began_cpu = time.perf_counter(), cpu_seconds()
            if packs:
                sizes, failed = _pack(jobs, workers, under_way)
                packed_s, packed_cpu_s = (
                    packed_s + time.perf_counter() - began,
                    packed_cpu_s + cpu_seconds() - began_cpu,
                )
            else:
                decode_bare(jobs, workers, under_way)
                bare_s, bare_cpu_s = (
                    bare_s + time.perf_counter() - began,
                    bare_cpu_s + cpu_seconds() - began_cpu,
                )
    media = jobs[0].media
    float_bytes = FLOAT_BYTES * 3 * media.frames * media.size**2
    item_bytes = sum(sizes) / max(1, len(sizes))
    return {
        "videos": len(jobs),
        "failed": failed,
        "workers": workers,
        "media": media.kind,
        "videos_per_s": 2 * len(jobs) / packed_s,
        "limit_videos_per_s": 2 * len(jobs) / bare_s,
        "of_limit": bare_s / packed_s,
        "cpu_of_limit": bare_cpu_s / packed_cpu_s,
        "bytes_per_item": item_bytes,
        "float32_bytes_per_item": float_bytes,
        "times_smaller": float_bytes / item_bytes if item_bytes else 0.0,
    }


def _pack(jobs: Sequence[ItemJob], workers: int, under_way: Task) -> tuple[list[int], int]:
    """The bytes of each packed item, and how many failed."""
    with (
        tempfile.TemporaryDirectory(prefix="mlrec-shards-bench-") as folder,
        open_output(folder) as output,
    ):
        with closing(pack_locally({0: jobs}, output, workers, None)) as packed:
            failed = 0
            for failures in packed:
                failed += any(failure.kind == "video" for failure in failures)
                under_way.advance()
        (record,) = read_shard_records(output)
    return [sum(member.size for member in members) for members in record.members.values()], failed
