"""mlrec bench loader: the input path of a rank, next to bare reading and bare decoding.

The input path goes from the plan to batches in the training process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain, groupby
from operator import itemgetter

import torch

from mlrec import storage
from mlrec.bench.bare_decode import Sample, time_decoding
from mlrec.bench.measure import Seconds, cpu_seconds, device_name
from mlrec.bench.result import Result, Row
from mlrec.bench.worker_parts import WARM_UP, most_items_of, step_seconds
from mlrec.config import DataConfig
from mlrec.data.byte_ranges import SampleRanges, ShardRead
from mlrec.data.decode import item_bytes, members_of, with_jpegs
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.shard_readers import READS_IN_FLIGHT
from mlrec.data.step_stream import stream_steps
from mlrec.data.stream import Data, StepDataset, open_data
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import track


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
    jpeg_videos_per_s: float | None
    """Videos per second of the input path with data.decode_on=device, which delivers JPEGs; None
    for clips."""


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
    host_bytes_per_video: int
    """Host memory of a decoded video."""
    jpeg_host_bytes_per_video: int | None
    """Host memory of a video with data.decode_on=device; None for clips."""
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
    jpeg_dataset: StepDataset | None = None
    if data.info.media.kind != "clip":
        jpeg_inputs = with_jpegs([spec], data.info.media, data.catalogue, data.url)
        jpeg_dataset = StepDataset(data, plan, 0, jpeg_inputs, local_negatives=False)
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
        speeds[str(workers)] = _measure_workers(
            dataset, jpeg_dataset, spec, samples, measured_steps, workers
        )

    videos = sum(map(len, items_by_step))
    return LoaderBench(
        modality=spec.modality.value,
        frames=spec.frames,
        size=spec.size,
        global_batch=global_batch,
        videos_per_step=videos / len(items_by_step),
        bytes_per_video=sum(map(_sample_bytes, stored.values())) / max(1, len(stored)),
        raw_read_mb_per_s=raw_read_mb_per_s,
        host_bytes_per_video=item_bytes(dataset.inputs),
        jpeg_host_bytes_per_video=item_bytes(jpeg_dataset.inputs) if jpeg_dataset else None,
        workers=speeds,
        step_seconds=step_seconds(dataset, spec, names, steps_of_worker),
    )


def _measure_workers(
    dataset: StepDataset,
    jpeg_dataset: StepDataset | None,
    spec: InputSpec,
    samples: Sequence[Sample],
    steps: range,
    workers: int,
) -> WorkerSpeeds:
    # The limit is the mean of a run before and one after the stream. The speed of a shared
    # machine drifts within minutes, and this way the drift affects both alike.
    before = time_decoding(dataset.data, spec, samples, workers)
    stream = _time_stream(dataset, steps, workers)
    after = time_decoding(dataset.data, spec, samples, workers)
    jpeg_videos_per_s = None
    if jpeg_dataset is not None:
        jpeg_videos_per_s = len(samples) / _time_stream(jpeg_dataset, steps, workers).elapsed_s
    limit_s = (before.elapsed_s + after.elapsed_s) / 2
    limit_cpu_s = (before.cpu_s + after.cpu_s) / 2
    return WorkerSpeeds(
        videos_per_s=len(samples) / stream.elapsed_s,
        mb_per_s=sum(map(_sample_bytes, samples)) / stream.elapsed_s / 1e6,
        limit_videos_per_s=len(samples) / limit_s,
        of_limit=limit_s / stream.elapsed_s,
        cpu_of_limit=limit_cpu_s / stream.cpu_s,
        jpeg_videos_per_s=jpeg_videos_per_s,
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
    most_items = most_items_of(dataset, last_step)
    for batch in stream_steps(dataset, 0, last_step, workers, False, most_items):
        if batch.step in (steps.start - 1, steps.stop - 1):
            arrivals.append(Seconds(time.perf_counter(), cpu_seconds()))
    first, last = arrivals
    return last.since(first)


def _result(url: str, bench: LoaderBench) -> Result:
    speeds: list[Row] = [
        ("workers", "videos/s", "MB/s", "bare decoding", "of it", "of its CPU", "as JPEGs")
    ]
    for workers, measured in bench.workers.items():
        speeds.append(
            (
                workers,
                f"{measured.videos_per_s:,.0f}",
                f"{measured.mb_per_s:,.1f}",
                f"{measured.limit_videos_per_s:,.0f}",
                f"{measured.of_limit:.0%}",
                f"{measured.cpu_of_limit:.0%}",
                f"{measured.jpeg_videos_per_s:,.0f}" if measured.jpeg_videos_per_s else "-",
            )
        )
    step_s = sum(bench.step_seconds.values())
    parts: list[Row] = [("a step in a worker", "time", "share")]
    for part, seconds in bench.step_seconds.items():
        parts.append((part, f"{1e3 * seconds:,.0f} ms", f"{seconds / step_s:.0%}"))
    summary = (
        f"input path of {url}: {bench.frames} x {bench.size} x {bench.size} of {bench.modality}, "
        f"{bench.bytes_per_video / 1e3:,.1f} kB a video, {bench.videos_per_step:,.0f} videos "
        f"a step of {counted(bench.global_batch, 'user')}; "
        f"the same bytes read raw: {bench.raw_read_mb_per_s:,.0f} MB/s"
    )
    device = device_name(torch.device("cpu"))
    return Result("loader", summary, device, asdict(bench), [speeds, parts], [_advice(bench)])


def _advice(bench: LoaderBench) -> str:
    """Return when to decode on the device, and what the loader then delivers."""
    fastest = max(bench.workers.values(), key=lambda measured: measured.videos_per_s)
    if fastest.jpeg_videos_per_s is None or bench.jpeg_host_bytes_per_video is None:
        return "data.decode_on=device decodes JPEG frames and covers, and no clips"
    return (
        "Set data.decode_on=device (needs a GPU and mlrec[nvjpeg]) where mlrec bench step reports "
        f"more than {fastest.videos_per_s:,.0f} videos/s per rank and no more cores are free. The "
        f"loader then delivers {fastest.jpeg_videos_per_s:,.0f} videos/s as JPEGs, in "
        f"{bench.jpeg_host_bytes_per_video / 1e3:,.0f} instead of "
        f"{bench.host_bytes_per_video / 1e3:,.0f} kB of host memory each"
    )
