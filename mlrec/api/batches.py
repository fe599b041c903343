"""Batches for a training loop of one's own.

Shape letters: B users of a batch, U distinct items of a batch, L positions of a history, T frames,
H W height and width (pixels).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from mlrec.data import schema
from mlrec.data.schema import InputSpec
from mlrec.data.step_stream import stream_steps
from mlrec.data.stream import StepDataset
from mlrec.runs import failures
from mlrec.runtime.printable import counted
from mlrec.runtime.terminal import say


@dataclass(frozen=True)
class Batch:
    """One step of training. All tensors are on the CPU until `to`.

    Example:
        >>> for batch in data.batches(256, media=("video",)):
        ...     vectors = encoder(batch.media["video"])        # [U, D]
        ...     history = vectors[batch.inputs.clamp(min=0)]    # [B, L, D]
        ...     is_real = batch.inputs >= 0
    """

    step: int
    """Number of the step, from 0, counted over all epochs."""
    users: torch.Tensor
    """int64 [B]: the users, as positions in `Dataset.users`."""
    items: torch.Tensor
    """int64 [U]: the distinct items of the users' training sequences, as positions in
    `Dataset.items`, ascending."""
    inputs: torch.Tensor
    """int64 [B, L]: each user's items as positions in `items`, oldest first; -1 pads the left."""
    targets: torch.Tensor
    """int64 [B, L]: the item that follows each item of `inputs`, as position in `items`; -1 for
    none."""
    log_p: torch.Tensor
    """float32 [U]: logarithm of each item's share of all training interactions, for the logQ
    correction of in-batch negatives."""
    media: dict[str, torch.Tensor]
    """The items' media, row u that of `items[u]`: video uint8 [U, T, H, W, 3], cover
    uint8 [U, H, W, 3], features/NAME float32 [U, width]."""
    valid: torch.Tensor
    """bool [U]: items that could be read. The media of others are zeros: leave those out of the
    loss, as `mlrec.train` does."""
    bad_items: dict[str, str]
    """Raw ids of the others, with the reason."""

    def to(self, device: str | torch.device) -> Batch:
        """Return the batch with all tensors on `device`."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                moved[field.name] = value.to(device, non_blocking=True)
        media = {name: tensor.to(device, non_blocking=True) for name, tensor in self.media.items()}
        return replace(self, media=media, **moved)


def epoch_batches(
    dataset: StepDataset, epoch: int, specs: Mapping[str, InputSpec], raw_ids: Sequence[str]
) -> Iterator[Batch]:
    """Yield the batches of an epoch.

    Args:
        specs: inputs to decode, by the name of the media.
        raw_ids: of all items, in the order of the catalogue.

    Raises:
        RuntimeError: more items than data.max_bad_items could not be read, as in training.
    """
    bad_items: dict[int, str] = {}
    first = epoch * dataset.plan.steps_per_epoch
    last = first + dataset.plan.steps_per_epoch
    workers = dataset.data.config.num_workers if specs else 0
    most_items = dataset.plan.most_items(dataset.plan.steps_per_epoch)
    for batch in stream_steps(dataset, first, last, workers, False, most_items):
        new = {item: why for item, why in batch.bad_items.items() if item not in bad_items}
        bad_items |= new
        if new:
            say(
                f"{counted(len(new), 'item')} of step {batch.step} could not be read: their media "
                "are zeros, and valid is False. Leave them out of the loss. "
                f"{failures.frequent_reason(new.values())}",
                error=True,
            )
        if len(bad_items) > dataset.data.config.max_bad_items:
            most = dataset.data.config.max_bad_items
            raise failures.too_many(bad_items.values(), most, dataset.data.url, None)
        yield _public(batch, specs, raw_ids)


def _public(batch: schema.Batch, specs: Mapping[str, InputSpec], raw_ids: Sequence[str]) -> Batch:
    # copies, because the loader writes the next but one step to the same memory
    media = {name: batch.media[spec].clone() for name, spec in specs.items()}
    # items are numbered from 1, in the order of the catalogue
    bad_items = {raw_ids[item - 1]: reason for item, reason in batch.bad_items.items()}
    return Batch(
        step=batch.step,
        users=batch.users_B,
        items=batch.items_U - 1,
        inputs=batch.inputs_BL,
        targets=batch.targets_BL,
        log_p=batch.log_p_U,
        media=media,
        valid=batch.valid_O,
        bad_items=bad_items,
    )
