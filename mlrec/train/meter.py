"""Figures of the steps since the last log line, added up on the device and over the ranks without a synchronisation per step."""

from __future__ import annotations

import math
import resource
import time
from contextlib import AbstractContextManager, nullcontext

import torch

from mlrec.data.schema import Batch, Step
from mlrec.runtime.distributed import World, max_over_ranks, sum_over_ranks
from mlrec.runtime.flops import FlopCounter, matrix_product_flops_per_s

_COUNTED_EVERY = 50
"""Steps between two whose arithmetic is counted, which costs some milliseconds."""


class Meter:
    """Collects what a step did; `reduce` turns it into metrics."""

    def __init__(self, world: World, dtype: torch.dtype) -> None:
        """
        Args:
            dtype: of the activations in training.
        """
        self.world = world
        self._peak_flops_per_s = matrix_product_flops_per_s(world.device, dtype)
        self._counter, self._steps_counted_for = FlopCounter(), _COUNTED_EVERY
        self.bad_items: dict[int, str] = {}
        """Items of this rank that could not be read, since the last `reduce`, with the reason."""
        self._reset()

    def _reset(self) -> None:
        self._start = time.perf_counter()
        self._steps = self._skipped = 0
        self._loss = torch.zeros((), dtype=torch.float64, device=self.world.device)
        self._norm = torch.zeros((), dtype=torch.float64, device=self.world.device)
        self._users = self._videos = self._hits = self._slots = self._bytes = self._local_bytes = (
            self._remote_bytes
        ) = 0
        self._flops, self._waited_s = 0, 0.0

    def counting(self) -> AbstractContextManager[object]:
        """What a step runs in; the arithmetic of some is counted, and stands for that of the steps after it."""
        if self._steps_counted_for < _COUNTED_EVERY:
            return nullcontext()
        self._steps_counted_for, self._counter = 0, FlopCounter()
        return self._counter

    def restart_clock(self) -> None:
        """Leaves out of the speeds what happened since the last `reduce`, such as an evaluation."""
        self._start = time.perf_counter()

    def add(self, batch: Batch, step: Step, waited_s: float) -> None:
        """Add one step; `batch` is the one from the loader, on the CPU. The loss of a skipped step is left out of the mean."""
        self._steps += 1
        self._steps_counted_for += 1
        self._flops += self._counter.total
        self._skipped += step.skipped
        if not step.skipped:
            self._loss += step.loss
        self._norm = torch.as_tensor(step.norm, dtype=torch.float64, device=self.world.device)
        self._users += len(batch.inputs_BL)
        self._videos += len(batch.valid_O)
        self._hits += 0 if batch.cached_O is None else int(batch.cached_O.sum())
        self._slots += int((batch.inputs_BL >= 0).sum() + (batch.targets_BL[:, -1] >= 0).sum())
        self._bytes += batch.bytes_read
        self._local_bytes += batch.local_bytes
        self._remote_bytes += batch.remote_bytes
        self._waited_s += waited_s
        self.bad_items.update(batch.bad_items)

    def reduce(self) -> dict[str, float]:
        """Return metrics over all ranks of the steps since the last call; collective."""
        elapsed_s = time.perf_counter() - self._start
        items = [self._videos, self._hits, self._slots]
        read = [self._bytes, self._local_bytes, self._remote_bytes]
        seconds = [self._waited_s, self._flops / self._peak_flops_per_s]
        parts = [self._users, *items, *read, *seconds, len(self.bad_items)]
        totals = torch.cat(
            [self._loss[None], torch.tensor(parts, dtype=torch.float64, device=self.world.device)]
        )
        loss, users, videos, hits, slots, bytes_read, local, remote, waited_s, at_peak_s, bad = (
            sum_over_ranks(totals).tolist()
        )
        peak_bytes = float(
            max_over_ranks(torch.tensor(_peak_bytes(self.world.device), device=self.world.device))
        )
        taken = self._steps - self._skipped
        metrics = {
            "train/loss": loss / taken / self.world.size if taken else math.nan,
            "train/grad_norm": float(self._norm),
            "train/skipped_steps": self._skipped,
            "speed/users_per_s": users / elapsed_s,
            "speed/videos_per_s": videos / elapsed_s,
            "speed/dedup": slots / max(1.0, videos),
            "speed/data_wait": waited_s / self.world.size / elapsed_s,
            "speed/hfu": at_peak_s / self.world.size / elapsed_s,
            "data/prefix_hits": hits / max(1.0, videos),
            "data/cache_hits": local / bytes_read
            if bytes_read
            else 1.0,  # what is not read at all misses no cache
            "data/bytes_read": bytes_read,
            "data/remote_bytes": remote,
            "data/bad_items": bad,
            "memory/peak_bytes": peak_bytes,
        }
        self._reset()
        return metrics


def _peak_bytes(device: torch.device) -> float:
    """Peak memory of this process so far: of the device, or resident memory on the CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
