"""The parts of a loader worker's step, and how long each takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mlrec.bench.bare_decode import decode_all
from mlrec.data.media_region import STEPS_IN_MEMORY, MediaRegion
from mlrec.data.schema import InputSpec
from mlrec.data.step_stream import StepParts
from mlrec.data.stream import StepDataset

PARTS = ("read", "decode", "collate", "transfer")
"""Parts of a worker's step.

read      members of the items, with their checksums
decode    media from their bytes
collate   the plan, and everything but the media into one batch
transfer  the batch to the training process, which shares the memory of the media
"""

WARM_UP = 2
"""Batches of a worker before the clock starts. Later ones reuse the memory that these allocate."""


def most_items_of(dataset: StepDataset, num_steps: int) -> int:
    """Return the most items of a step, of all of them: a larger one would interrupt the stream."""
    return max(len(dataset.plan.step(step).items_U) for step in range(num_steps))


def step_seconds(
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
        region = MediaRegion(dataset.inputs, most_items_of(dataset, steps), STEPS_IN_MEMORY)
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
