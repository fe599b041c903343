"""The protocol of a recommender: the state of a user after each item of the history, and the score of items for a state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Vectors:
    """What a recommender compares: the items of a step, or the whole catalogue, after whatever it does to items alone."""

    ids_U: torch.Tensor
    """int64: ids of the items, ascending, from 1."""
    inputs_UD: torch.Tensor
    """The item tower's vectors, zeros for an item that could not be read: what histories are made of."""
    items_UX: torch.Tensor
    """What states are scored with; its width is the recommender's affair."""
    users_MX: torch.Tensor | None = None
    """States of all users, where the recommender has some that do not come from histories."""


class UserModel(nn.Module):
    """Item vectors to states of users, and the score of items for a state."""

    trained: ClassVar[bool] = True
    """Whether it learns in steps; one that does not is fitted before the first, and its runs have 0 of them."""
    whole_catalogue: ClassVar[bool] = False
    """Whether a step needs the vectors of all items, not only of the global batch's."""

    @property
    def knows_ids(self) -> bool:
        """Whether something of it belongs to single users or items of a data set: a node of a graph, a count."""
        return self.whole_catalogue or not self.trained

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        """Takes what the model knows of the training interactions; called once, before the first step.

        Args:
            sequences: the training sequences of all users in their order, int64 [B, T] of item ids, oldest first, 0 for padding.
            num_items: N; items are numbered 1 ... N.
        """

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        """What depends on the items alone, once per step or evaluation: the vectors as they are, unless a model changes them."""
        return Vectors(ids_U, items_UD, items_UD)

    def states(
        self, vectors: Vectors, users_B: torch.Tensor, slots_BL: torch.Tensor
    ) -> torch.Tensor:
        """States [B, L, X] after each position.

        Args:
            users_B: int64, numbers of the users.
            slots_BL: int64, positions in U of each user's history, right-aligned, -1 where there is no readable item.
        """
        raise NotImplementedError

    def last_states(
        self, vectors: Vectors, users_B: torch.Tensor, slots_BL: torch.Tensor
    ) -> torch.Tensor:
        """The state [B, X] after the newest item."""
        return self.states(vectors, users_B, slots_BL)[:, -1]

    def score(self, states_PX: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Scores [P, U] of every item for every state, or [P, K] of items of each state's own: dot products, as a rule.

        Args:
            items: what `Vectors.items_UX` holds, [U, X] for all states, or [P, K, X].
        """
        return states_PX @ items.T if items.dim() == 2 else (states_PX[:, None] * items).sum(dim=-1)


SHORT = 1e-3
"""Vectors of this length or less are rounding errors about zero; the tables of millions of items begin with longer ones."""

ALL, LAST = slice(None), slice(-1, None)
"""Positions of a history whose states are wanted."""


class SequenceModel(UserModel):
    """A user is the sequence of the item vectors of the history."""

    cosine: bool = False
    """Whether the score is the cosine of state and item, not their dot product."""

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        return Vectors(ids_U, items_UD, self.compared(items_UD))

    def forward(
        self, history_BLD: torch.Tensor, mask_BL: torch.Tensor, wanted: slice = ALL
    ) -> torch.Tensor:
        """States [B, L, X] after each wanted position; positions are right-aligned, mask is True on real items.

        A model leaves the work on the others out where it can: full ranking wants the last one only.
        """
        raise NotImplementedError

    def states(
        self, vectors: Vectors, users_B: torch.Tensor, slots_BL: torch.Tensor
    ) -> torch.Tensor:
        return self.compared(self(*select_history(vectors.inputs_UD, slots_BL)))

    def last_states(
        self, vectors: Vectors, users_B: torch.Tensor, slots_BL: torch.Tensor
    ) -> torch.Tensor:
        return self.compared(self(*select_history(vectors.inputs_UD, slots_BL), LAST)[:, 0])

    def compared(self, vectors: torch.Tensor) -> torch.Tensor:
        """States or items as the score takes them, of length 1 where it is a cosine; a `prepare` of one's own applies it too."""
        return unit(vectors) if self.cosine else vectors


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """The vectors at length 1; zeros, as of an item without content, stay zeros, and so become all that are shorter than `SHORT`.

    No gradient goes behind those: divided by a length of nearly 0, it would drown all others.
    """
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(length > SHORT, normalize(vectors, dim=-1, eps=SHORT), 0.0)


def select_history(
    items_UD: torch.Tensor, slots_BL: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of the histories [B, L, D], zeros where the slot is -1, and the mask [B, L] of the others."""
    mask_BL = slots_BL >= 0
    # its backward adds up an item's gradients over all its occurrences; on a CPU in a fixed order
    picked = items_UD.index_select(0, slots_BL.clamp(min=0).flatten()).view(*slots_BL.shape, -1)
    return picked * mask_BL[..., None], mask_BL


def readable_slots(slots_BL: torch.Tensor, valid_U: torch.Tensor) -> torch.Tensor:
    """The slots with -1 in the place of items that could not be read."""
    return torch.where((slots_BL >= 0) & valid_U[slots_BL.clamp(min=0)], slots_BL, -1)


def mean_so_far(values_BLD: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
    """The mean [B, L, D] of the real items up to each position, zeros before the first."""
    count_BL1 = mask_BL.cumsum(dim=1).clamp(min=1)[..., None]
    return (values_BLD * mask_BL[..., None]).cumsum(dim=1) / count_BL1
