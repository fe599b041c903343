"""mlrec bench loader: the input path of a rank, next to bare reading and bare decoding.

The input path goes from the plan to batches in the training process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain, groupby
from multiprocessing.reduction import ForkingPickler
from operator import itemgetter

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mlrec import storage
from mlrec.bench.bare_decode import Sample, decode_all, time_decoding
from mlrec.bench.measure import Seconds, cpu_seconds, device_name
from mlrec.bench.result import Result, Row
from mlrec.config import DataConfig
from mlrec.data.byte_ranges import SampleRanges, ShardRead
from mlrec.data.decode import members_of
from mlrec.data.media_region import STEPS_IN_MEMORY, MediaRegion
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.shard_readers import READS_IN_FLIGHT
from mlrec.data.step_stream import StepParts, stream_steps
from mlrec.data.stream import Data, StepDataset, open_data
from mlrec.runtime.progress import track

PARTS = ("read", "decode", "collate", "transfer")
"""Parts of a worker's step.

read      members of the items, with their checksums
decode    media from their bytes
collate   the plan, and everything but the media into one batch
transfer  the batch to the training process, which shares the memory of the media
"""

WARM_UP = 2
"""Batches of a worker before the clock starts. Later ones reuse the memory that these allocate."""


@dataclass(frozen=True)
class WorkerSpeeds:
    """Speeds of the input path with some number of workers; field names are keys of --json."""

    videos_per_s: float
    mb_per_s: float
    """Encoded media (MB) per second."""
    limit_videos_per_s: float
    """Videos per second of bare decoding on as many processes."""
    of_limit: float
    """Share of the limit that the input path reaches."""
    cpu_of_limit: float
    """The same share in CPU seconds, which other work on the cores does not change."""


@dataclass(frozen=True)
class LoaderBench:
    """What `mlrec bench loader` measured; field names are the keys of --json."""

    modality: str
    frames: int
    size: int
    """Height and width of a frame (pixels)."""
    global_batch: int
    videos_per_step: float
    bytes_per_video: float
    """Mean bytes of the encoded media of an item."""
    raw_read_mb_per_s: float
    """MB per second of reading the same bytes and nothing else."""
    workers: dict[str, WorkerSpeeds]
    """Speeds by number of workers."""
    step_seconds: dict[str, float]
    """Mean seconds of each of PARTS in a worker."""


def run(options: argparse.Namespace) -> Result:
    """Measure one rank.

    Raises:
        ValueError: no data set at the URL, nothing to decode in it, or a number below 1.
    """
    for name in ("workers", "global_batch", "steps"):
        value = getattr(options, name)
        if value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be 1 or more")
    torch.set_num_threads(1)  # as in a worker
    data = open_data(DataConfig(url=options.url))
    bench = measure_loader(data, options.global_batch, options.workers, options.steps)
    return _result(options.url, bench)


def heavy_input(data: Data) -> InputSpec:
    """Return the input that is costly to decode: videos as stored, or else covers.

    Raises:
        ValueError: the data set has neither.
    """
    media = data.info.media
    if media.kind != "none":
        return InputSpec(Modality.VIDEO, frames=media.frames, size=media.size)
    if media.has_cover:
        return InputSpec(Modality.COVER, size=media.size)
    raise ValueError(
        f"Cannot measure decoding of {data.url}: it holds neither videos nor covers. "
        "Pack a raw folder that has them"
    )


def measure_loader(
    data: Data, global_batch: int, most_workers: int, steps_per_worker: int
) -> LoaderBench:
    """Measure one rank with 0, 1, 2 and `most_workers` workers.

    Raises:
        ValueError: the data set holds nothing to decode.
    """
    spec = heavy_input(data)
    plan = Plan(data.sequences, 0, global_batch, Owners((1,)))
    dataset = StepDataset(data, plan, 0, [spec], local_negatives=False)
    names = members_of([spec], data.info.media)
    steps_of_worker = WARM_UP + steps_per_worker
    items_by_step: list[list[int]] = []
    for step in range(steps_of_worker * most_workers):
        items_by_step.append(plan.step(step).items_U.tolist())
    distinct_items = sorted(set(chain.from_iterable(items_by_step)))

    # Raw reading comes first. It leaves the bytes in the page cache for all later measurements.
    raw_read_mb_per_s = _raw_read_mb_per_s(data, distinct_items, names)
    stored: dict[int, Sample] = {}
    for item, sample in data.store.read_many(distinct_items, names):
        if not isinstance(sample, str):  # a str is the reason why an item cannot be read
            stored[item] = sample

    speeds: dict[str, WorkerSpeeds] = {}
    worker_counts = sorted({0, 1, min(2, most_workers), most_workers})
    for workers in track(worker_counts, "measuring numbers of workers"):
        # Workers take steps in turn, so that each warms up on WARM_UP of them.
        processes = max(1, workers)
        measured_steps = range(WARM_UP * processes, steps_of_worker * processes)
        measured_items = chain.from_iterable(items_by_step[step] for step in measured_steps)
        samples = [stored[item] for item in measured_items if item in stored]
        speeds[str(workers)] = _measure_workers(dataset, spec, samples, measured_steps, workers)

    videos = sum(map(len, items_by_step))
    return LoaderBench(
        modality=spec.modality.value,
        frames=spec.frames,
        size=spec.size,
        global_batch=global_batch,
        videos_per_step=videos / len(items_by_step),
        bytes_per_video=sum(map(_sample_bytes, stored.values())) / max(1, len(stored)),
        raw_read_mb_per_s=raw_read_mb_per_s,
        workers=speeds,
        step_seconds=_step_seconds(dataset, spec, names, steps_of_worker),
    )


def _measure_workers(
    dataset: StepDataset, spec: InputSpec, samples: Sequence[Sample], steps: range, workers: int
) -> WorkerSpeeds:
    # The limit is the mean of a run before and one after the stream. The speed of a shared
    # machine drifts within minutes, and this way the drift affects both alike.
    before = time_decoding(dataset.data, spec, samples, workers)
    stream = _time_stream(dataset, steps, workers)
    after = time_decoding(dataset.data, spec, samples, workers)
    limit_s = (before.elapsed_s + after.elapsed_s) / 2
    limit_cpu_s = (before.cpu_s + after.cpu_s) / 2
    return WorkerSpeeds(
        videos_per_s=len(samples) / stream.elapsed_s,
        mb_per_s=sum(map(_sample_bytes, samples)) / stream.elapsed_s / 1e6,
        limit_videos_per_s=len(samples) / limit_s,
        of_limit=limit_s / stream.elapsed_s,
        cpu_of_limit=limit_cpu_s / stream.cpu_s,
    )


def _sample_bytes(sample: Sample) -> int:
    return sum(map(len, sample.values()))


def _raw_read_mb_per_s(data: Data, items: Sequence[int], names: Sequence[str]) -> float:
    """Return the MB per second of reading the items' members from the data set's URL."""
    ranges: list[tuple[str, int, int]] = []
    # The same reads as in the loader, without their checksums and members.
    for read in SampleRanges(data.catalogue, data.store.shards, items, names).reads():
        if isinstance(read, ShardRead):
            ranges.append((storage.join(data.url, read.shard.path), read.start, read.size))
    total_bytes = sum(size for _, _, size in ranges)
    start_s = time.perf_counter()
    if storage.is_local(data.url):
        for url, shard_ranges in groupby(ranges, itemgetter(0)):
            places = ((start, size) for _, start, size in shard_ranges)
            for _ in storage.read_local_ranges(storage.local_path(url), places):
                pass
    else:
        # As in the loader: many requests in flight hide the latency of a remote store.
        for _ in storage.read_ranges(ranges, READS_IN_FLIGHT):
            pass
    return total_bytes / (time.perf_counter() - start_s) / 1e6


def _time_stream(dataset: StepDataset, steps: range, workers: int) -> Seconds:
    """Return the time between the arrivals of the batch before `steps` and of their last batch."""
    arrivals: list[Seconds] = []
    # The stream goes on for a step. At both arrivals all workers are therefore busy with the next
    # step, and the work done ahead of the clock is the same at both.
    last_step = steps.stop + 1
    most_items = _most_items(dataset, last_step)
    for batch in stream_steps(dataset, 0, last_step, workers, False, most_items):
        if batch.step in (steps.start - 1, steps.stop - 1):
            arrivals.append(Seconds(time.perf_counter(), cpu_seconds()))
    first, last = arrivals
    return last.since(first)


def _most_items(dataset: StepDataset, num_steps: int) -> int:
    """Return the most items of a step, of all of them: a larger one would interrupt the stream."""
    return max(len(dataset.plan.step(step).items_U) for step in range(num_steps))


def _step_seconds(
    dataset: StepDataset, spec: InputSpec, names: Sequence[str], steps: int
) -> dict[str, float]:
    """Return the mean seconds of each of PARTS in one worker, without those of the warm-up."""
    timed_steps = _TimedSteps(dataset, spec, names, steps)
    loader = DataLoader(timed_steps, None, num_workers=1, multiprocessing_context="fork")
    part_seconds = torch.stack(list(loader))[WARM_UP:].mean(dim=0).tolist()
    return dict(zip(PARTS, part_seconds, strict=True))


class _TimedSteps(Dataset[torch.Tensor]):
    """Seconds of each of PARTS by step, float64 [4].

    It must run in a worker, where pickling moves large tensors into shared memory.
    """

    def __init__(
        self, dataset: StepDataset, spec: InputSpec, names: Sequence[str], steps: int
    ) -> None:
        self.dataset = dataset
        region = MediaRegion(dataset.inputs, _most_items(dataset, steps), STEPS_IN_MEMORY)
        self.parts = StepParts(dataset, region, num_workers=1)
        self.spec = spec
        self.names = names
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> torch.Tensor:
        data = self.dataset.data
        items = self.dataset.plan.step(step).items_U.tolist()
        laps_s = [time.perf_counter()]
        samples = list(data.store.read_many(items, self.names))
        laps_s.append(time.perf_counter())
        intact_samples = [sample for _, sample in samples if not isinstance(sample, str)]
        decode_all(data, self.spec, intact_samples)
        laps_s.append(time.perf_counter())
        part = self.parts[step]
        laps_s.append(time.perf_counter())
        ForkingPickler.dumps(part)
        laps_s.append(time.perf_counter())
        read_s, decode_s, batch_s, transfer_s = np.diff(laps_s).tolist()
        # Building the batch reads and decodes a second time. The rest of it is collation, which
        # can come out negative where the second read is much faster.
        collate_s = max(0.0, batch_s - read_s - decode_s)
        return torch.tensor([read_s, decode_s, collate_s, transfer_s], dtype=torch.float64)


def _result(url: str, bench: LoaderBench) -> Result:
    speeds: list[Row] = [("workers", "videos/s", "MB/s", "bare decoding", "of it", "of its CPU")]
    for workers, measured in bench.workers.items():
        speeds.append(
            (
                workers,
                f"{measured.videos_per_s:,.0f}",
                f"{measured.mb_per_s:,.1f}",
                f"{measured.limit_videos_per_s:,.0f}",
                f"{measured.of_limit:.0%}",
                f"{measured.cpu_of_limit:.0%}",
            )
        )
    step_s = sum(bench.step_seconds.values())
    parts: list[Row] = [("a step in a worker", "time", "share")]
    for part, seconds in bench.step_seconds.items():
        parts.append((part, f"{1e3 * seconds:,.0f} ms", f"{seconds / step_s:.0%}"))
    summary = (
        f"input path of {url}: {bench.frames} x {bench.size} x {bench.size} of {bench.modality}, "
        f"{bench.bytes_per_video / 1e3:,.1f} kB a video, {bench.videos_per_step:,.0f} videos "
        f"a step of {bench.global_batch} users; "
        f"the same bytes read raw: {bench.raw_read_mb_per_s:,.0f} MB/s"
    )
    device = device_name(torch.device("cpu"))
    return Result("loader", summary, device, asdict(bench), [speeds, parts])
