"""The base classes of recommenders. Start here to add one.

1. Derive a class from `SequenceModel` and implement `forward`, from histories of item vectors to
   states. Its constructor takes width, the longest history, and options with defaults.
2. Add the class to RECOMMENDERS in __init__.py. Its options become `recommender.options`.

`MeanOfHistory` in mlrec/README.md is a complete example, gru4rec.py the shortest model here.
Derive from `UserModel` if users are not their histories alone: see graph.py and counting.py.
tests/unit/models/test_recommenders.py tests every row of the table.

A step calls `prepare` for the items, then `states` for the users, then `score` for pairs of both.

Shape letters:

    B  users of this rank         L  positions of a history, oldest first, right-aligned
    R  positions to compute       P  wanted states, those to score
    U  items of a step            D  width of item vectors (recommender.width)
    N  items of the catalogue     M  users of the data set        K  items per state
    X  width of what is scored; chosen by the model
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import normalize

from mlrec.models.recommenders.histories import SHORTEST_SPAN, History, Slots, cut_into_spans


@dataclass(frozen=True)
class Vectors:
    """Items and users of a step or of the whole catalogue, as `UserModel.prepare` returns them."""

    ids_U: torch.Tensor
    """Item ids, int64, ascending from 1."""
    inputs_UD: torch.Tensor
    """The item tower's vectors, of which histories are made; zeros for an unreadable item."""
    items_UX: torch.Tensor
    """Item vectors that states are scored with."""
    users_MX: torch.Tensor | None = None
    """States of all users, for a model whose states do not come from histories."""


class UserModel(nn.Module):
    """A recommender: item vectors to states of users, and the score of items for a state."""

    trained: ClassVar[bool] = True
    """False for a model that `fit` completes; its runs have 0 steps."""
    whole_catalogue: ClassVar[bool] = False
    """True if a step needs the vectors of all items, not only of the global batch's."""

    computes_histories: ClassVar[bool] = False
    """True if a state depends on what the model computes for earlier positions, and not only on the
    item vectors there. Padding is then skipped."""

    @property
    def knows_ids(self) -> bool:
        """True if the model holds something per user or item, such as a graph's nodes or counts."""
        return self.whole_catalogue or not self.trained

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        """Read the training interactions; called once on every rank, before the first step.

        Args:
            sequences: training sequences of all users in order, int64 [B, T] of item ids, oldest
                first, 0 for padding.
            num_items: N; items are numbered 1 ... N.
        """

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        """Compute what depends on items alone, once per step or evaluation; by default nothing."""
        return Vectors(ids_U, items_UD, items_UD)

    def slots(
        self, items_BL: torch.Tensor, wanted_P: torch.Tensor, device: torch.device | None = None
    ) -> Slots:
        """Return the slots that `states` reads; the host waits for the device of `items_BL`.

        Args:
            items_BL: as in Slots.
            wanted_P: wanted positions, int64, ascending.
            device: on which the states are computed; None for that of `items_BL`.
        """
        if self.computes_histories:
            kind = (device or items_BL.device).type
            return cut_into_spans(items_BL, wanted_P, SHORTEST_SPAN[kind])
        return Slots(items_BL, wanted_P, torch.arange(len(wanted_P), device=wanted_P.device))

    def states(self, vectors: Vectors, users_B: torch.Tensor, slots: Slots) -> torch.Tensor:
        """Return the states [P, X] after each wanted position.

        Args:
            users_B: user numbers, int64.
            slots: the users' histories, from the method `slots`.
        """
        raise NotImplementedError

    def last_states(
        self, vectors: Vectors, users_B: torch.Tensor, items_BL: torch.Tensor
    ) -> torch.Tensor:
        """Return the state [B, X] after the newest item; the host waits for the device.

        Args:
            items_BL: as in Slots.
        """
        length = items_BL.shape[1]
        last_B = torch.arange(1, len(items_BL) + 1, device=items_BL.device) * length - 1
        return self.states(vectors, users_B, self.slots(items_BL, last_B))

    def score(self, states_PX: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return scores [P, U] of all items or [P, K] of each state's own; by default dot products.

        Args:
            items: rows of `Vectors.items_UX`: [U, X] for all states, or [P, K, X].
        """
        # a product with broadcasting would hold [P, U, X] in memory
        if items.dim() == 2:
            return states_PX @ items.T
        return (states_PX[:, None] * items).sum(dim=-1)


MIN_LENGTH = 1e-3
"""Longest vector that counts as zero. Such vectors are rounding errors; even the initial id vectors
of millions of items are longer."""


class SequenceModel(UserModel):
    """A recommender whose users are the sequences of their histories' item vectors."""

    cosine: bool = False
    """True if the score is the cosine of state and item instead of their dot product."""

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        return Vectors(ids_U, items_UD, self.compared(items_UD))

    def forward(self, history: History) -> torch.Tensor:
        """Return the states [P, X] at the wanted positions; a state includes its position's item.

        Dropout layers take values of the computed positions, [R, ...].
        """
        raise NotImplementedError

    def states(self, vectors: Vectors, users_B: torch.Tensor, slots: Slots) -> torch.Tensor:
        states_PX = self(History(vectors.inputs_UD, slots))
        if states_PX.dim() != 2 or len(states_PX) != len(slots.wanted_P):
            raise ValueError(
                f"{type(self).__name__}.forward returned states of shape {list(states_PX.shape)} "
                f"for {len(slots.wanted_P)} wanted positions. Return one row for each of them: "
                "history.at_rows(states_BLX)[history.wanted_P]"
            )
        return self.compared(states_PX)

    def compared(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return states or items in the form that is scored: of length 1 for a cosine.

        A `prepare` that overrides the default must apply it to `items_UX`.
        """
        return unit(vectors) if self.cosine else vectors


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Return the vectors scaled to length 1; those of at most MIN_LENGTH become zeros.

    Zeros, the vectors of items without content, get no gradient. Divided by a length near 0, it
    would be larger than all others together.
    """
    # eps keeps the branch that `where` rejects finite. Its gradient is multiplied by 0, and an
    # infinite one would become NaN.
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(length > MIN_LENGTH, normalize(vectors, dim=-1, eps=MIN_LENGTH), 0.0)


def readable_slots(slots_BL: torch.Tensor, valid_U: torch.Tensor) -> torch.Tensor:
    """Return the slots with -1 instead of items that could not be read."""
    # clamped, because -1 would read the last item's entry
    return torch.where((slots_BL >= 0) & valid_U[slots_BL.clamp(min=0)], slots_BL, -1)


def mean_so_far(values_BLD: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
    """Return the mean [B, L, D] of real items up to each position; zeros before the first."""
    # a count of 0 before the first item would divide zeros by 0
    count_BL1 = mask_BL.cumsum(dim=1).clamp(min=1)[..., None]
    return (values_BLD * mask_BL[..., None]).cumsum(dim=1) / count_BL1
