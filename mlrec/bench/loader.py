"""mlrec bench loader: the input path, from the plan to batches in the training process, beside reading and decoding bare."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mlrec import storage
from mlrec.bench.measure import cpu_seconds, device_name
from mlrec.bench.result import Result
from mlrec.config import DataConfig
from mlrec.data.decode import DECODERS, members_of
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.shard_readers import READS_IN_FLIGHT
from mlrec.data.stream import Data, StepDataset, open_data, stream_steps
from mlrec.runtime.progress import track

PARTS = ("read", "decode", "collate", "transfer")
"""Of a step in a worker: members with their checksums; media of their bytes; the plan, and all into one batch; to where the
training process finds it."""

WARM_UP = 2
"""Batches of a worker before the clock starts: the first ones fill memory that the later ones use again."""


def run(options: argparse.Namespace) -> Result:
    """Measures one rank.

    Raises:
        ValueError: there is no data set at the URL, it holds nothing to decode, or a number is below 1.
    """
    for name in ("workers", "global_batch", "steps"):
        if getattr(options, name) < 1:
            raise ValueError(
                f"--{name.replace('_', '-')} is {getattr(options, name)}; it must be 1 or more"
            )
    torch.set_num_threads(1)  # as in a worker
    figures = measure_loader(
        open_data(DataConfig(url=options.url)), options.global_batch, options.workers, options.steps
    )
    return _result(options.url, figures)


def heavy_input(data: Data) -> InputSpec:
    """What there is to decode: the videos as they are stored, or the covers.

    Raises:
        ValueError: the data set has neither.
    """
    media = data.info.media
    if media.kind != "none":
        return InputSpec(Modality.VIDEO, frames=media.frames, size=media.size)
    if media.has_cover:
        return InputSpec(Modality.COVER, size=media.size)
    raise ValueError(
        f"{data.url} holds neither videos nor covers: there is nothing to decode; pack a raw folder that has them"
    )


def measure_loader(
    data: Data, global_batch: int, most_workers: int, steps_per_worker: int
) -> dict[str, Any]:
    """Figures of one rank for 0, 1, 2 and `most_workers` workers, each between two runs of its limit.

    Raises:
        ValueError: the data set holds nothing to decode.
    """
    spec = heavy_input(data)
    plan = Plan(data.sequences, 0, global_batch, Owners((1,)))
    dataset = StepDataset(data, plan, 0, [spec], local_negatives=False)
    names = members_of([spec], data.info.media)
    steps = [
        plan.step(step).items_U.tolist()
        for step in range((WARM_UP + steps_per_worker) * most_workers)
    ]
    distinct = sorted({item for items in steps for item in items})
    raw_mb_per_s = _read_raw(data, distinct, names)
    stored = {
        item: sample
        for item, sample in data.store.read_many(distinct, names)
        if not isinstance(sample, str)
    }
    by_workers = {}
    for workers in track(
        sorted({0, 1, min(2, most_workers), most_workers}), "measuring numbers of workers"
    ):
        run = range(WARM_UP * max(1, workers), (WARM_UP + steps_per_worker) * max(1, workers))
        samples = [stored[item] for step in run for item in steps[step] if item in stored]
        limits = [_decode_bare(data, spec, samples, workers)]
        elapsed_s, cpu_s = _time_stream(dataset, run, workers)
        limits.append(_decode_bare(data, spec, samples, workers))
        limit_s, limit_cpu_s = (sum(times) / 2 for times in zip(*limits, strict=True))
        by_workers[str(workers)] = {
            "videos_per_s": len(samples) / elapsed_s,
            "mb_per_s": sum(map(_size, samples)) / elapsed_s / 1e6,
            "limit_videos_per_s": len(samples) / limit_s,
            "of_limit": limit_s / elapsed_s,
            "cpu_of_limit": limit_cpu_s / cpu_s,
        }
    account = DataLoader(
        _Account(dataset, spec, names, WARM_UP + steps_per_worker),
        None,
        num_workers=1,
        multiprocessing_context="fork",
    )
    return {
        "modality": spec.modality.value,
        "frames": spec.frames,
        "size": spec.size,
        "global_batch": global_batch,
        "videos_per_step": sum(map(len, steps)) / len(steps),
        "bytes_per_video": sum(map(_size, stored.values())) / max(1, len(stored)),
        "raw_read_mb_per_s": raw_mb_per_s,
        "workers": by_workers,
        "step_seconds": dict(
            zip(PARTS, torch.stack(list(account))[WARM_UP:].mean(dim=0).tolist(), strict=True)
        ),
    }


def _size(sample: Mapping[str, bytes]) -> int:
    return sum(map(len, sample.values()))


def _read_raw(data: Data, items: Sequence[int], names: Sequence[str]) -> float:
    """MB per second of reading the items' members from where the data set is, and nothing else."""
    ranges = []
    for item in items:
        members = [member for member in data.catalogue.members(item) if member.name in names]
        if members:
            start, end = members[0].offset, members[-1].offset + members[-1].size
            shard = data.store.shards[int(data.catalogue.shard_N1[item])]
            ranges.append((storage.join(data.url, shard.path), start, end - start))
    began = time.perf_counter()
    if storage.is_local(data.url):
        for url, start, size in ranges:
            storage.read_range(url, start, size)
    else:
        for _ in storage.read_ranges(ranges, READS_IN_FLIGHT):
            pass
    return sum(size for _, _, size in ranges) / (time.perf_counter() - began) / 1e6


def _time_stream(dataset: StepDataset, run: range, workers: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU, between the arrivals of the batches before and at the end of the run.

    At both moments every worker is at work on a batch: what it had done of the first it has done of the last.
    """
    marks = []
    for batch in stream_steps(dataset, 0, run.stop + workers, workers, pin_memory=False):
        if batch.step in (run.start - 1, run.stop - 1):
            marks.append((time.perf_counter(), cpu_seconds()))
    (began, began_cpu), (ended, ended_cpu) = marks
    return ended - began, ended_cpu - began_cpu


def _decode_bare(
    data: Data, spec: InputSpec, samples: Sequence[Mapping[str, bytes]], workers: int
) -> tuple[float, float]:
    """Seconds, and seconds of CPU, that `workers` processes take to decode the samples once they run; 0 for this one alone."""
    context = multiprocessing.get_context("fork")  # as the loader's, which share what there is
    times = context.SimpleQueue()
    if not workers:
        _decode_timed(data, spec, samples, times)
        alone: tuple[float, float] = times.get()
        return alone
    parts = [samples[worker::workers] for worker in range(workers)]
    processes = [
        context.Process(target=_decode_timed, args=(data, spec, part, times)) for part in parts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(
            f"a process that decodes died; memory may have run out: try fewer --workers than {workers}"
        )
    found = [times.get() for _ in processes]
    return max(elapsed_s for elapsed_s, _ in found), sum(cpu_s for _, cpu_s in found)


def _decode_timed(
    data: Data, spec: InputSpec, samples: Sequence[Mapping[str, bytes]], times: Any
) -> None:
    began, began_cpu = time.perf_counter(), time.process_time()
    _decode_all(data, spec, samples)
    times.put((time.perf_counter() - began, time.process_time() - began_cpu))


def _decode_all(data: Data, spec: InputSpec, samples: Sequence[Mapping[str, bytes]]) -> None:
    decoder = DECODERS[spec.modality]
    out = np.empty(decoder.shape(spec), dtype=np.uint8)
    for sample in samples:
        with suppress(ValueError):  # a damaged one costs the input path the same
            decoder.decode(sample, spec, data.info.media, 0, out)


class _Account(Dataset[torch.Tensor]):
    """Maps a step to the seconds of PARTS, float64; run it in a worker, whose batches lie in shared memory."""

    def __init__(
        self, dataset: StepDataset, spec: InputSpec, names: Sequence[str], steps: int
    ) -> None:
        self.dataset, self.spec, self.names, self.steps = dataset, spec, names, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> torch.Tensor:
        data = self.dataset.data
        times = [time.perf_counter()]
        items = self.dataset.plan.step(step).items_U.tolist()
        times.append(time.perf_counter())
        samples = list(data.store.read_many(items, self.names))
        times.append(time.perf_counter())
        _decode_all(
            data, self.spec, [sample for _, sample in samples if not isinstance(sample, str)]
        )
        times.append(time.perf_counter())
        batch = self.dataset[step]
        times.append(time.perf_counter())
        ForkingPickler.dumps(batch)
        times.append(time.perf_counter())
        _, read_s, decode_s, batch_s, transfer_s = np.diff(times).tolist()
        return torch.tensor(
            [read_s, decode_s, max(0.0, batch_s - read_s - decode_s), transfer_s],
            dtype=torch.float64,
        )


def _result(url: str, figures: dict[str, Any]) -> Result:
    rows = [("workers", "videos/s", "MB/s", "bare decoding", "of it", "of its CPU")]
    for workers, found in figures["workers"].items():
        speeds = (
            f"{found['videos_per_s']:,.0f}",
            f"{found['mb_per_s']:,.1f}",
            f"{found['limit_videos_per_s']:,.0f}",
        )
        rows.append((workers, *speeds, f"{found['of_limit']:.0%}", f"{found['cpu_of_limit']:.0%}"))
    total_s = sum(figures["step_seconds"].values())
    parts = [
        (part, f"{1e3 * value:,.0f} ms", f"{value / total_s:.0%}")
        for part, value in figures["step_seconds"].items()
    ]
    measured = (
        f"input path of {url}: {figures['frames']} x {figures['size']} x {figures['size']} of {figures['modality']}, "
        f"{figures['bytes_per_video'] / 1e3:,.1f} kB a video, {figures['videos_per_step']:,.0f} videos a step of "
        f"{figures['global_batch']} users; the same bytes read raw: {figures['raw_read_mb_per_s']:,.0f} MB/s"
    )
    device = device_name(torch.device("cpu"))
    return Result(
        "loader",
        measured,
        device,
        figures,
        [rows, [("a step in a worker", "time", "share"), *parts]],
    )
