"""Measure packing a raw folder's videos next to decoding the same files and nothing else."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlrec.bench.measure import cpu_name, cpu_seconds
from mlrec.bench.result import Result
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import Task, task
from shards_tools.bench.bare_decoding import decode_bare
from shards_tools.pack.engines import pack_locally
from shards_tools.pack.inputs import NO_INPUTS, Inputs
from shards_tools.pack.items import ItemJob
from shards_tools.pack.output import open_output
from shards_tools.pack.plan import plan
from shards_tools.pack.records import failed_items, read_shard_records
from shards_tools.pack.settings import Settings

FLOAT_BYTES = 4
"""Bytes of a value in MicroLens' LMDB, which stores frames as float32."""
ROUNDS = 2
"""Number of times that the videos are packed, and that they are decoded bare."""


def bench_packing(
    raw_root: str, settings: Settings, workers: int, num_items: int, inputs: Inputs = NO_INPUTS
) -> Result:
    """Pack the first `num_items` videos to a temporary folder, and decode them bare.

    Raises:
        ValueError: the raw folder is not one, or has no videos.
        RuntimeError: worker processes died.
    """
    if workers < 1 or num_items < 1:
        raise ValueError(f"--workers {workers} --items {num_items}: both must be 1 or more")
    # the plan is not measured: it is read once, however many videos there are
    planned = plan(raw_root, settings, inputs)
    jobs = [job for job in planned.jobs if job.video or job.frames][:num_items]
    if not jobs:
        raise ValueError(f"{raw_root} holds none of its items' videos. There is nothing to decode")
    figures = measure_packing(jobs, workers)
    measured = (
        f"packing {counted(len(jobs), 'video')} of {raw_root} into {settings.media} by policy "
        f"{settings.policy}, {workers} at a time"
    )
    return Result("pack", measured, cpu_name(), figures, [_speeds(figures), _sizes(figures)])


def _speeds(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table of speeds."""
    return [
        ("", "videos/s"),
        ("packing", f"{figures['videos_per_s']:,.2f}"),
        ("bare decoding of the same files", f"{figures['limit_videos_per_s']:,.2f}"),
        ("packing, of bare decoding", f"{figures['of_limit']:.0%}"),
        (
            "the same in seconds of CPU, free of other work on the cores",
            f"{figures['cpu_of_limit']:.0%}",
        ),
    ]


def _sizes(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table of sizes."""
    return [
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


@dataclass
class _Stopwatch:
    """Time spent in several runs of the same work."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """CPU seconds of all processes, which other work on the cores does not change."""

    def run(self, work: Callable[[], None]) -> None:
        """Do the work, and add its time."""
        start_s = time.perf_counter()
        start_cpu_s = cpu_seconds()
        work()
        self.wall_s += time.perf_counter() - start_s
        self.cpu_s += cpu_seconds() - start_cpu_s


def measure_packing(jobs: Sequence[ItemJob], workers: int) -> dict[str, Any]:
    """Return the figures of packing the jobs to one shard with the local engine."""
    packing = _Stopwatch()
    bare = _Stopwatch()
    shards: list[_PackedShard] = []
    with task("packing, and decoding bare", 2 * ROUNDS * len(jobs)) as progress:

        def pack() -> None:
            shards.append(_pack(jobs, workers, progress))

        def decode() -> None:
            decode_bare(jobs, workers, progress)

        # in this order, so that neither gets the quieter half of the run
        bare.run(decode)
        packing.run(pack)
        packing.run(pack)
        bare.run(decode)
    # both rounds pack the same bytes
    shard = shards[-1]
    # all jobs have the same media settings
    media = jobs[0].media
    float_bytes = FLOAT_BYTES * 3 * media.frames * media.size**2
    # all may have failed, which the figures then say
    item_bytes = sum(shard.item_bytes) / max(1, len(shard.item_bytes))
    return {
        "videos": len(jobs),
        "failed": shard.num_failed,
        "workers": workers,
        "media": media.kind,
        "videos_per_s": ROUNDS * len(jobs) / packing.wall_s,
        "limit_videos_per_s": ROUNDS * len(jobs) / bare.wall_s,
        "of_limit": bare.wall_s / packing.wall_s,
        "cpu_of_limit": bare.cpu_s / packing.cpu_s,
        "bytes_per_item": item_bytes,
        "float32_bytes_per_item": float_bytes,
        "times_smaller": float_bytes / item_bytes if item_bytes else 0.0,
    }


class _PackedShard(NamedTuple):
    """A shard that was packed to measure it."""

    item_bytes: list[int]
    """Bytes of each packed item."""
    num_failed: int
    """Number of items that could not be packed."""


def _pack(jobs: Sequence[ItemJob], workers: int, progress: Task) -> _PackedShard:
    """Pack the jobs to one shard in a temporary folder."""
    num_failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="mlrec-shards-bench-") as folder,
        open_output(folder) as output,
    ):
        # shard 0 has all jobs, so that no time goes to a half-empty second shard
        with closing(pack_locally({0: jobs}, output, workers, None)) as packed:
            for failures in packed:
                num_failed += bool(failed_items(failures))
                progress.advance()
        # one shard, and read before the folder goes
        (record,) = read_shard_records(output)
    item_bytes = []
    for members in record.members.values():
        item_bytes.append(sum(member.size for member in members))
    return _PackedShard(item_bytes, num_failed)
