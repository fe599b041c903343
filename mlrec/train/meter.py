"""Figures of the steps since the last log line.

They are summed on the device, and over the ranks once per log line: a step never waits for them.
"""

from __future__ import annotations

import math
import resource
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass

import torch

from mlrec.data.schema import Batch, Step
from mlrec.runtime.distributed import World, max_over_ranks, sum_over_ranks
from mlrec.runtime.flops import FlopCounter, matrix_product_flops_per_s

_STEPS_PER_FLOP_COUNT = 50
"""Steps that one count of floating-point operations stands for; counting takes milliseconds."""


@dataclass
class _Sums:
    """Sums over steps, of one rank or of all ranks."""

    users: float = 0
    items: float = 0
    cached_items: float = 0
    """Items whose activations the item tower has cached."""
    item_slots: float = 0
    """Positions of items in the sequences; an item of several sequences counts several times."""
    bytes_read: float = 0
    local_bytes: float = 0
    """Part of bytes_read that was on this node."""
    remote_bytes: float = 0
    """Bytes that came over the network."""
    waited_s: float = 0.0
    """Time that the loop waited for batches (seconds)."""
    compute_at_peak_s: float = 0.0
    """Time that the arithmetic would take at the device's peak speed (seconds)."""
    cpu_s: float = 0.0
    """Processor time of the ranks, without that of loader processes (seconds)."""
    bad_items: float = 0


class Meter:
    """Collector of what the steps did; every rank has one, and `reduce` turns it into metrics."""

    def __init__(self, world: World, dtype: torch.dtype) -> None:
        """Start with no steps.

        Args:
            dtype: of the activations in training.
        """
        self.world = world
        self._peak_flops_per_s = matrix_product_flops_per_s(world.device, dtype)
        self._counter = FlopCounter()
        # The first step is counted.
        self._steps_since_count = _STEPS_PER_FLOP_COUNT
        self.bad_items: dict[int, str] = {}
        """Items of this rank that could not be read, since the last `reduce`, with the reason."""
        self._reset()

    def _reset(self) -> None:
        self.restart_clock()
        self._steps = 0
        self._skipped = 0
        self._flops = 0
        self._sums = _Sums()
        # On the device, because reading a loss would make the host wait for it. In fp64, because
        # a small loss would vanish in a long fp32 sum.
        self._loss = torch.zeros((), dtype=torch.float64, device=self.world.device)
        self._norm: torch.Tensor | float = 0.0

    def counting(self) -> AbstractContextManager[object]:
        """Return the context in which a step runs; it counts the arithmetic of some steps.

        The count of a step stands for that of the steps after it.
        """
        if self._steps_since_count < _STEPS_PER_FLOP_COUNT:
            return nullcontext()
        self._steps_since_count = 0
        self._counter = FlopCounter()
        return self._counter

    def restart_clock(self) -> None:
        """Leave the time since the last `reduce` out of the speeds, such as an evaluation's."""
        self._start_s = time.perf_counter()
        self._start_cpu_s = time.process_time()

    def add(self, batch: Batch, step: Step, waited_s: float) -> None:
        """Add one step; a skipped step's loss is left out of the mean.

        Args:
            batch: the step's batch as it came from the loader, in host memory.
            waited_s: time that the loop waited for the batch (seconds).
        """
        self._steps += 1
        self._steps_since_count += 1
        self._flops += self._counter.total
        self._skipped += step.skipped
        if not step.skipped:
            self._loss += step.loss
        # A number, or a tensor on the device that is read with the next log line.
        self._norm = step.norm

        sums = self._sums
        sums.users += len(batch.inputs_BL)
        sums.items += len(batch.valid_O)
        if batch.cached_O is not None:
            sums.cached_items += int(batch.cached_O.sum())
        # Inputs hold all items of a sequence but the last, which is a target only.
        sums.item_slots += int((batch.inputs_BL >= 0).sum())
        sums.item_slots += int((batch.targets_BL[:, -1] >= 0).sum())
        sums.bytes_read += batch.bytes_read
        sums.local_bytes += batch.local_bytes
        sums.remote_bytes += batch.remote_bytes
        sums.waited_s += waited_s
        self.bad_items.update(batch.bad_items)

    def reduce(self) -> dict[str, float]:
        """Return metrics over all ranks of the steps since the last call; collective."""
        elapsed_s = time.perf_counter() - self._start_s
        device = self.world.device
        ranks = self.world.size
        self._sums.compute_at_peak_s = self._flops / self._peak_flops_per_s
        self._sums.cpu_s = time.process_time() - self._start_cpu_s
        self._sums.bad_items = len(self.bad_items)

        # One all-reduce for all sums. The host waits for the device only when it reads them.
        own_sums = torch.tensor(astuple(self._sums), dtype=torch.float64, device=device)
        totals = sum_over_ranks(torch.cat([own_sums, self._loss[None]]))
        *other_totals, loss = totals.tolist()
        sums = _Sums(*other_totals)
        peak_bytes = max_over_ranks(torch.tensor(_peak_bytes(device), device=device))

        # All ranks skip the same steps, so that this rank's count is that of all.
        updates = self._steps - self._skipped
        items = max(1.0, sums.items)
        metrics = {
            "train/loss": loss / updates / ranks if updates else math.nan,
            "train/grad_norm": float(self._norm),
            "train/skipped_steps": self._skipped,
            "speed/users_per_s": sums.users / elapsed_s,
            "speed/videos_per_s": sums.items / elapsed_s,
            "speed/dedup": sums.item_slots / items,
            "speed/data_wait": sums.waited_s / ranks / elapsed_s,
            "speed/hfu": sums.compute_at_peak_s / ranks / elapsed_s,
            "speed/cpu_s": sums.cpu_s,
            "data/prefix_hits": sums.cached_items / items,
            # What is not read at all misses no cache.
            "data/cache_hits": sums.local_bytes / sums.bytes_read if sums.bytes_read else 1.0,
            "data/bytes_read": sums.bytes_read,
            "data/remote_bytes": sums.remote_bytes,
            "data/bad_items": sums.bad_items,
            "memory/peak_bytes": float(peak_bytes),
        }
        self._reset()
        return metrics


def _peak_bytes(device: torch.device) -> float:
    """Return the peak memory of this process: of the device, or resident memory on the CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    # Linux reports it in KiB.
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
