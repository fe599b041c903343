"""Recommenders that are counted, not trained: one pass over the training interactions, no step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch

from mlrec.models.recommenders.base import UserModel, Vectors


class Popularity(UserModel):
    """The number of training interactions of an item, for every user alike."""

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
        return Vectors(ids_U, items_UD, self.count_N1[ids_U, None].float())

    def states(
        self, vectors: Vectors, users_B: torch.Tensor, slots_BL: torch.Tensor
    ) -> torch.Tensor:
        return torch.ones(*slots_BL.shape, 1, device=slots_BL.device)


class ItemKNN(UserModel):
    """Items that were watched by the same users: BM25-weighted co-occurrence.

    An item is a document, a user a term (Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009):
    a training interaction weighs idf (k1 + 1) / (k1 (1 - b + b length / mean length) + 1), where idf = log(N / (1 + items of the
    user)) and length is the item's number of interactions. Two items are as similar as the product of their weights, summed over
    users; the division by the length is what keeps popular items from being everybody's neighbour. A score is the sum over the
    history, each step back in time weighing `decay` of the one after it: a user's state is the scores of all items themselves.
    """

    trained: ClassVar[bool] = False

    starts_N2: torch.Tensor
    """Where an item's neighbours begin; those of item i are starts[i] ... starts[i + 1] - 1."""
    neighbours_S: torch.Tensor
    similarity_S: torch.Tensor

    def __init__(
        self, width: int, length: int, k1: float = 1.2, b: float = 0.75, decay: float = 0.7
    ) -> None:
        super().__init__()
        self.k1, self.b, self.decay = k1, b, decay

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        chunks = [items_BT.int() for items_BT in sequences]
        length_N1 = torch.zeros(num_items + 1)
        for items_BT in chunks:
            length_N1 += torch.bincount(items_BT[items_BT > 0], minlength=num_items + 1)
        norm_N1 = 1 - self.b + self.b * length_N1 / length_N1[length_N1 > 0].mean()
        saturation_N1 = (self.k1 + 1) / (self.k1 * norm_N1 + 1)
        shape = (num_items + 1, num_items + 1)
        none = torch.empty(0, dtype=torch.int64)
        products = torch.sparse_coo_tensor(
            torch.stack([none, none]), none.float(), shape, check_invariants=False
        ).coalesce()
        for items_BT in chunks:
            idf_B1 = torch.log(num_items / (1 + (items_BT > 0).sum(dim=1, keepdim=True)))
            weight_BT = (items_BT > 0) * idf_B1 * saturation_N1[items_BT]
            value_BTT = weight_BT[:, :, None] * weight_BT[:, None, :]
            found_BTT = (value_BTT != 0) & (items_BT[:, :, None] != items_BT[:, None, :])
            pairs = torch.stack(
                [
                    side.expand_as(value_BTT)[found_BTT]
                    for side in (items_BT[:, :, None], items_BT[:, None, :])
                ]
            )
            found = torch.sparse_coo_tensor(
                pairs, value_BTT[found_BTT], shape, check_invariants=False
            )
            products = (products + found).coalesce()
        left_S, right_S = products.indices()
        degree_N1 = torch.bincount(left_S, minlength=num_items + 1)
        self.register_buffer(
            "starts_N2", torch.cat([torch.zeros(1, dtype=torch.int64), degree_N1.cumsum(0)])
        )
        self.register_buffer("neighbours_S", right_S.contiguous())
        self.register_buffer("similarity_S", products.values())

    def states(
        self, vectors: Vectors, users_B: torch.Tensor, slots_BL: torch.Tensor
    ) -> torch.Tensor:
        lengths = range(1, slots_BL.shape[1] + 1)
        return torch.stack(
            [self.last_states(vectors, users_B, slots_BL[:, :length]) for length in lengths], dim=1
        )

    def last_states(
        self, vectors: Vectors, users_B: torch.Tensor, slots_BL: torch.Tensor
    ) -> torch.Tensor:
        decay_L = self.decay ** torch.arange(slots_BL.shape[1] - 1, -1, -1, device=slots_BL.device)
        rows_H, places_H = torch.nonzero(slots_BL >= 0, as_tuple=True)
        ids_H = vectors.ids_U[slots_BL[rows_H, places_H]]
        degree_H = self.starts_N2[ids_H + 1] - self.starts_N2[ids_H]
        # the neighbours of all history items one behind the other
        offset_H = self.starts_N2[ids_H] - degree_H.cumsum(0) + degree_H
        found = torch.arange(
            int(degree_H.sum()), device=slots_BL.device
        ) + offset_H.repeat_interleave(degree_H)
        value = self.similarity_S[found].float() * decay_L[places_H].repeat_interleave(degree_H)
        scores_BN1 = torch.zeros(len(slots_BL), len(self.starts_N2) - 1, device=slots_BL.device)
        scores_BN1.index_put_(
            (rows_H.repeat_interleave(degree_H), self.neighbours_S[found]), value, accumulate=True
        )
        return scores_BN1[:, vectors.ids_U]

    def score(self, states_PX: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return states_PX
