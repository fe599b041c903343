"""Stream a rank's steps: loader workers decode the next step together while one is in training.

The n-th of W workers decodes the n-th of W runs of the rank's items, straight into the memory from
which the training process encodes them. Only small tensors are sent: see `StepPart`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from torch.utils.data import Dataset

from mlrec.data.media_region import MediaRegion, steps_in_memory
from mlrec.data.schema import Batch
from mlrec.data.stream import StepDataset, StepPart
from mlrec.data.workers import WorkerDiedError, log_replacement, workers_output
from mlrec.runtime.distributed import shares

GROWTH = 16
"""A region that is too small is replaced by one with room for a step and 1/GROWTH of it."""


class StepTooLargeError(Exception):
    """A step has more items than the region has rows."""

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.num_items = num_items


class StepParts(Dataset[StepPart]):
    """The parts of all steps, numbered step by step. Their media are written to a region.

    Invariant: nothing is written to the media of a step that is in training.
    The DataLoader gives a worker its part of step s + 1 when the main process takes its part of
    step s. The main process does that when step s is asked for, which is after step s - 1. So the
    two halves of the region are those of step s and of step s + 1, which overwrites step s - 1.
    """

    def __init__(self, dataset: StepDataset, region: MediaRegion, num_workers: int) -> None:
        self.dataset = dataset
        self.region = region
        self.num_workers = num_workers
        self.parts_per_step = max(1, num_workers)

    def __getitem__(self, number: int) -> StepPart:
        """Plan a step, and load one run of this rank's items of it."""
        step, index = divmod(number, self.parts_per_step)
        # Planning takes less than a percent of the time to decode, so each part plans the step.
        plan = self.dataset.plan.step(step, self.dataset.items_N)
        items = self.dataset.own_items(plan)
        sizes = shares(len(items), self.parts_per_step)
        rows = slice(sum(sizes[:index]), sum(sizes[: index + 1]))
        if len(items) > self.region.most_items:
            # There is no memory for the media. The main process sees that by the number of items.
            rows = slice(0, 0)
        part = self.dataset.load(items[rows], self.region.media(step, rows))
        outline = self.dataset.outline(plan) if index == 0 else None
        return replace(part, num_items=len(items), outline=outline)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of steps `first` ... `last` - 1.

        Raises:
            StepTooLargeError: the region has too few rows for the next step.
            WorkerDiedError: a worker ended.
            RuntimeError: a part cannot be built.
        """
        numbers = range(first * self.parts_per_step, last * self.parts_per_step)
        # Media are in the region, so there is nothing for torch to pin. A prefetch factor of more
        # than 1 would break the invariant.
        output = workers_output(
            self, numbers, self.num_workers, pin_memory=False, prefetch_factor=1
        )
        with closing(output) as loaded_parts:
            for step in range(first, last):
                parts: list[StepPart] = []
                for _ in range(self.parts_per_step):
                    parts.append(next(loaded_parts))
                num_items = parts[0].num_items
                if num_items > self.region.most_items:
                    raise StepTooLargeError(num_items)
                assert parts[0].outline is not None
                media = self.region.media(step, slice(num_items))
                yield self.dataset.join(parts[0].outline, media, parts)


def stream_steps(
    dataset: StepDataset,
    first: int,
    last: int,
    num_workers: int,
    pin_memory: bool,
    most_items: int,
) -> Iterator[Batch]:
    """Yield the batches of steps `first` ... `last` - 1, decoded one step ahead of training.

    A worker that dies is replaced. A batch's media are valid until the next batch is requested.
    By then, copies of them to a GPU must have ended. They have after `Engine.update`, which waits
    for the gradient's norm before it updates or skips.

    Args:
        most_items: rows of media for each step. A step with more items gets a larger region.

    Raises:
        RuntimeError: workers die again and again, or a batch cannot be built.
    """
    deaths = 0
    step = first
    region = _make_region(dataset, num_workers, pin_memory, most_items)
    try:
        while step < last:
            try:
                for batch in StepParts(dataset, region, num_workers).batches(step, last):
                    # Counted before the yield: if a worker dies now, the next pass starts after it.
                    deaths = 0
                    step += 1
                    yield batch.pin_memory() if pin_memory else batch
            except WorkerDiedError as error:
                deaths += 1
                log_replacement(dataset.data.clock, f"at step {step}", deaths, error)
            except StepTooLargeError as error:
                # Rare, because most_items is the most of several steps.
                region.discard()
                num_items = error.num_items + error.num_items // GROWTH
                region = _make_region(dataset, num_workers, pin_memory, num_items)
    finally:
        region.unlock_pages()


def _make_region(
    dataset: StepDataset, num_workers: int, pin_memory: bool, most_items: int
) -> MediaRegion:
    region = MediaRegion(dataset.inputs, most_items, steps_in_memory(num_workers))
    if pin_memory:
        region.lock_pages()
    return region
