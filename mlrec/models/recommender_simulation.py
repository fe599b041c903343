"""Simulate the recommender's part of a step: from item vectors to the loss and back."""

from __future__ import annotations

import numpy as np
import torch

from mlrec.data.schema import Batch
from mlrec.models.pass_cost import PassCost
from mlrec.models.pass_recorder import record_pass
from mlrec.models.recommender import ForwardHooks, Recommender
from mlrec.models.simulation import META, as_trained_without_values


def simulate_recommender(
    model: Recommender, batch: Batch, width: int, dtype: torch.dtype
) -> PassCost:
    """Return the cost of a rank's recommender and loss in a step, on some device.

    Args:
        model: on any device; it is left as it was.
        batch: from `batch_of`.
        width: D of the item vectors.
        dtype: of parameters and item vectors in training.
    """
    copied = as_trained_without_values(model, dtype)
    assert isinstance(copied, Recommender)
    batch = batch.to(META)

    def forward() -> torch.Tensor:
        # Stands for the vectors of all items, as the exchange returns them.
        shape = (len(batch.items_U), width)
        items_UD = torch.empty(shape, dtype=dtype, device=META, requires_grad=True)
        loss: torch.Tensor = copied(batch, ForwardHooks(encode=lambda batch: items_UD))
        return loss

    return record_pass(forward, copied, len(batch.items_U))


def batch_of(slots_BT: np.ndarray, num_items: int) -> Batch:
    """Return a batch of one rank's users, as if that rank owned all items of the step.

    Args:
        slots_BT: training sequences as positions in the step's items, right-aligned, -1 for
            padding.
        num_items: U, of all ranks.
    """
    slots = torch.from_numpy(slots_BT)
    inputs_BL = slots[:, :-1].contiguous()
    targets_BL = slots[:, 1:].masked_fill(inputs_BL < 0, -1)
    items_U = torch.arange(1, num_items + 1)
    counts = torch.bincount(slots[slots >= 0], minlength=num_items)
    return Batch(
        step=0,
        users_B=torch.arange(len(slots_BT)),
        items_U=items_U,
        count_U=counts,
        targets_U=torch.bincount(targets_BL[targets_BL >= 0], minlength=num_items),
        log_p_U=torch.full((num_items,), -float(np.log(num_items))),
        owned_W=(num_items,),
        items_O=items_U,
        media={},
        valid_O=torch.ones(num_items, dtype=torch.bool),
        inputs_BL=inputs_BL,
        targets_BL=targets_BL,
    )


def drawn_slots(
    rng: np.random.Generator, users: int, slots: int, mean_length: float, shares_U: np.ndarray
) -> np.ndarray:
    """Return made-up training sequences [users, slots] as positions in a step's items.

    Args:
        slots: T, the longest sequence.
        mean_length: of the sequences.
        shares_U: relative popularity of the items.
    """
    # Each user has the rounded-down mean, and enough users one item more.
    base = int(mean_length)
    lengths_B = base + (rng.random(users) < mean_length - base)
    drawn_BT = rng.choice(len(shares_U), size=(users, slots), p=shares_U / shares_U.sum())
    is_padding_BT = np.arange(slots) < (slots - lengths_B.clip(max=slots))[:, None]
    drawn_BT[is_padding_BT] = -1
    return drawn_BT
