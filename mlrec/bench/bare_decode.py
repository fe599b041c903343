"""Bare decoding of samples in memory on some number of processes: the limit of the loader."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from mlrec.bench.measure import Seconds
from mlrec.data.decoders import decoder_of
from mlrec.data.schema import InputSpec
from mlrec.data.stream import Data

Sample = Mapping[str, bytes]
"""Members of an item by name."""


def time_decoding(data: Data, spec: InputSpec, samples: Sequence[Sample], workers: int) -> Seconds:
    """Return how long `workers` processes take to decode the samples; 0 for this process alone.

    The time to start the processes does not count.

    Raises:
        RuntimeError: a process died.
    """
    # The loader forks its workers too. A forked process shares the samples, without a copy.
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    if workers == 0:
        _decode_timed(data, spec, samples, results)
        seconds: Seconds = results.get()
        return seconds
    processes = []
    for worker in range(workers):
        worker_samples = samples[worker::workers]
        arguments = (data, spec, worker_samples, results)
        processes.append(context.Process(target=_decode_timed, args=arguments))
    for process in processes:
        process.start()
    # A result is far smaller than the pipe's buffer, so that no process waits for a reader here.
    for process in processes:
        process.join()
    for process in processes:
        if process.exitcode:
            raise RuntimeError(
                f"Cannot decode on {workers} processes: one died with exit code "
                f"{process.exitcode}. Memory may have run out. Try fewer --workers"
            )
    by_process: list[Seconds] = [results.get() for _ in processes]
    # The processes run at the same time: the slowest ends the run, and each uses a core.
    slowest_s = max(seconds.elapsed_s for seconds in by_process)
    return Seconds(slowest_s, sum(seconds.cpu_s for seconds in by_process))


def decode_all(data: Data, spec: InputSpec, samples: Sequence[Sample]) -> None:
    """Decode the samples one after the other, and drop the results."""
    decoder = decoder_of(spec)
    pixels = np.empty(decoder.shape(spec), dtype=np.uint8)
    for sample in samples:
        # A damaged sample costs the input path the same time.
        with suppress(ValueError):
            decoder.decode(sample, spec, data.info.media, 0, pixels)


def _decode_timed(data: Data, spec: InputSpec, samples: Sequence[Sample], results: Any) -> None:
    start_s = time.perf_counter()
    start_cpu_s = time.process_time()
    decode_all(data, spec, samples)
    elapsed_s = time.perf_counter() - start_s
    results.put(Seconds(elapsed_s, time.process_time() - start_cpu_s))
