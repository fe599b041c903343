"""Recommenders without training: one pass over the training interactions counts everything.

Shape letters: B users, P wanted states, T items of a training sequence, N catalogue,
S pairs of similar items, H items of all histories.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch

from mlrec.models.recommenders.base import UserModel, Vectors
from mlrec.models.recommenders.histories import Slots


class Popularity(UserModel):
    """The same ranking for every user: an item's number of training interactions."""

    trained: ClassVar[bool] = False

    count_N1: torch.Tensor

    def __init__(self, width: int, length: int) -> None:
        super().__init__()

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        counts = torch.zeros(num_items + 1, dtype=torch.int64)
        for items_BT in sequences:
            counts += torch.bincount(items_BT[items_BT > 0], minlength=num_items + 1)
        self.register_buffer("count_N1", counts)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        # fp32 is exact up to 16.7 million interactions of an item
        return Vectors(ids_U, items_UD, self.count_N1[ids_U, None].float())

    def states(self, vectors: Vectors, users_B: torch.Tensor, slots: Slots) -> torch.Tensor:
        # times an item's count, this is the score for every user
        return torch.ones(len(slots.wanted_P), 1, device=users_B.device)


class ItemKNN(UserModel):
    """Items that were watched by the same users: BM25-weighted co-occurrence.

    An item is a document and a user is a term (Robertson and Zaragoza, The Probabilistic Relevance
    Framework: BM25 and Beyond, 2009). The weight of a training interaction is
    idf (k1 + 1) / (k1 (1 - b + b length / mean length) + 1), with idf = log(N / (1 + items of the
    user)) and the item's number of interactions as length. The similarity of two items is the
    product of their weights, summed over users. Dividing by the length keeps popular items from
    being neighbours of everything. A score sums similarities over the history, where each step
    back in time multiplies the weight by `decay`. A user's state is the scores of all items.
    """

    trained: ClassVar[bool] = False

    starts_N2: torch.Tensor
    """Index of each item's first neighbour: those of item i are starts[i] ... starts[i + 1] - 1."""
    neighbours_S: torch.Tensor
    """Item ids of the neighbours of all items, grouped by item."""
    similarity_S: torch.Tensor
    """Similarity of each pair in neighbours_S."""

    def __init__(
        self, width: int, length: int, k1: float = 1.2, b: float = 0.75, decay: float = 0.7
    ) -> None:
        super().__init__()
        self.k1 = k1
        self.b = b
        self.decay = decay

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        # read twice: the weights of the second pass need the lengths counted in the first one
        # int32, because all sequences stay in memory between the passes
        chunks = [items_BT.int() for items_BT in sequences]
        length_N1 = torch.zeros(num_items + 1)
        for items_BT in chunks:
            length_N1 += torch.bincount(items_BT[items_BT > 0], minlength=num_items + 1)
        # items without interactions do not count in the mean length
        norm_N1 = 1 - self.b + self.b * length_N1 / length_N1[length_N1 > 0].mean()
        saturation_N1 = (self.k1 + 1) / (self.k1 * norm_N1 + 1)
        shape = (num_items + 1, num_items + 1)
        none = torch.empty(0, dtype=torch.int64)
        products = torch.sparse_coo_tensor(
            torch.stack([none, none]), none.float(), shape, check_invariants=False
        ).coalesce()
        for items_BT in chunks:
            idf_B1 = torch.log(num_items / (1 + (items_BT > 0).sum(dim=1, keepdim=True)))
            # padding has weight 0, so no pair contains it
            weight_BT = (items_BT > 0) * idf_B1 * saturation_N1[items_BT]
            value_BTT = weight_BT[:, :, None] * weight_BT[:, None, :]
            left_BTT = items_BT[:, :, None].expand_as(value_BTT)
            right_BTT = items_BT[:, None, :].expand_as(value_BTT)
            is_pair_BTT = (value_BTT != 0) & (left_BTT != right_BTT)
            pairs = torch.stack([left_BTT[is_pair_BTT], right_BTT[is_pair_BTT]])
            chunk_products = torch.sparse_coo_tensor(
                pairs, value_BTT[is_pair_BTT], shape, check_invariants=False
            )
            # coalesced per chunk, so that memory holds each pair of items once
            products = (products + chunk_products).coalesce()
        left_S, right_S = products.indices()
        # coalesce has sorted the pairs by their left item, so its neighbours are contiguous
        degree_N1 = torch.bincount(left_S, minlength=num_items + 1)
        self.register_buffer(
            "starts_N2", torch.cat([torch.zeros(1, dtype=torch.int64), degree_N1.cumsum(0)])
        )
        self.register_buffer("neighbours_S", right_S.contiguous())
        self.register_buffer("similarity_S", products.values())

    def states(self, vectors: Vectors, users_B: torch.Tensor, slots: Slots) -> torch.Tensor:
        length = slots.items_BL.shape[1]
        positions_P = slots.wanted_rows()
        users_P = positions_P // length
        places_P1 = (positions_P % length)[:, None]
        # the newest item, at the wanted position, has weight 1
        steps_PL = places_P1 - torch.arange(length, device=users_B.device)
        items_PL = slots.items_BL[users_P]
        rows_H, places_H = torch.nonzero((items_PL >= 0) & (steps_PL >= 0), as_tuple=True)
        decay_H = self.decay ** steps_PL[rows_H, places_H]
        ids_H = vectors.ids_U[items_PL[rows_H, places_H]]
        degree_H = self.starts_N2[ids_H + 1] - self.starts_N2[ids_H]
        # Concatenate the neighbours of all history items. Adding an item's offset to a position in
        # this concatenation gives its index into neighbours_S.
        offset_H = self.starts_N2[ids_H] - degree_H.cumsum(0) + degree_H
        positions = torch.arange(int(degree_H.sum()), device=users_B.device)
        indices = positions + offset_H.repeat_interleave(degree_H)
        weights = decay_H.repeat_interleave(degree_H)
        values = self.similarity_S[indices].float() * weights
        scores_PN1 = torch.zeros(len(users_P), len(self.starts_N2) - 1, device=users_B.device)
        rows = rows_H.repeat_interleave(degree_H)
        scores_PN1.index_put_((rows, self.neighbours_S[indices]), values, accumulate=True)
        return scores_PN1[:, vectors.ids_U]

    def score(self, states_PX: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return states_PX
