"""Factorization machines over the watched items and the candidate item.

Each watched item has the weight 1 / their number. Let s be the sum of the weighted history vectors
and t the candidate's vector. Then the pairwise products of all features sum to c + s * t, where
c = (s^2 - sum of squares) / 2 contains the pairs within the history.

Shape letters: B users, L positions, D width, P states, U items, K items per state, H width of the
network's input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from mlrec.models.dropout import Dropout, drawing, dropouts_of
from mlrec.models.recommenders.base import SequenceModel, Vectors, mean_so_far
from mlrec.models.recommenders.histories import History
from mlrec.runtime.flops import ELEMENTWISE_VALUES


class NFM(SequenceModel):
    """He and Chua, Neural Factorization Machines for Sparse Predictive Analytics, 2017.

    A network over the vector c + s * t (bi-interaction pooling), and a linear term of each feature.
    """

    def __init__(self, width: int, length: int, layers: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.first_order = _first_order(width)
        self.network = PairNetwork(width, layers, dropout)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        # `score` splits these columns: the vector t and the first-order term
        return Vectors(ids_U, items_UD, torch.cat([items_UD, self.first_order(items_UD)], dim=1))

    def forward(self, history: History) -> torch.Tensor:
        sum_PD, pairs_PD = _history_features(history)
        # `score` splits these columns: s, c and the first-order term. The weights of the history
        # add up to 1, so the term of the weighted sum is the weighted sum of the terms.
        return torch.cat([sum_PD, pairs_PD, self.first_order(sum_PD)], dim=-1)

    def score(self, states_PX: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        sum_PD, pairs_PD, first_P1 = torch.split(states_PX, [self.width, self.width, 1], dim=1)
        vectors, first = torch.split(items, [self.width, 1], dim=-1)
        scores: torch.Tensor = self.network(pairs_PD, sum_PD, vectors) + first_P1 + first[..., 0]
        return scores


class DeepFM(SequenceModel):
    """Guo et al., DeepFM: A Factorization-Machine based Neural Network for CTR Prediction, 2017.

    A factorization machine plus a network over the concatenated vectors of history and candidate.
    """

    def __init__(self, width: int, length: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.first_order = _first_order(width)
        # A layer over a concatenation equals the sum of a layer over each part. Split like this,
        # each part is computed once per user or item, not once per pair.
        self.of_user = nn.Linear(width, width)
        self.of_item = nn.Linear(width, width, bias=False)
        for part in (self.of_user, self.of_item):
            nn.init.xavier_normal_(part.weight)
        nn.init.zeros_(self.of_user.bias)
        self.network = PairNetwork(width, layers - 1, dropout)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        parts = [items_UD, self.of_item(items_UD), self.first_order(items_UD)]
        return Vectors(ids_U, items_UD, torch.cat(parts, dim=1))

    def forward(self, history: History) -> torch.Tensor:
        sum_PD, pairs_PD = _history_features(history)
        of_user_P1 = pairs_PD.sum(dim=-1, keepdim=True) + self.first_order(sum_PD)
        # `score` splits these columns: s, the hidden layer's part, and all terms without the item
        return torch.cat([sum_PD, self.of_user(sum_PD), of_user_P1], dim=-1)

    def score(self, states_PX: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        sum_PD, hidden_PD, of_user_P1 = torch.split(states_PX, [self.width, self.width, 1], dim=1)
        vectors, hidden, first = torch.split(items, [self.width, self.width, 1], dim=-1)
        products = super().score(sum_PD, vectors)
        scores: torch.Tensor = products + self.network(hidden_PD, None, hidden)
        return scores + of_user_P1 + first[..., 0]


class PairNetwork(nn.Module):
    """A network from a vector of each (state, item) pair to one number.

    Pairs are computed in parts with activation checkpointing, which bounds memory. The weights are
    parameters of this module, not of submodules, so that ZeRO-3 gathers them once, whatever number
    of parts a rank has.
    """

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = layers
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in range(layers + 1))
        self._drawing = dropouts_of(self)
        for layer in range(layers):
            self.register_parameter(
                f"weight_{layer}", nn.Parameter(nn.init.xavier_normal_(torch.empty(width, width)))
            )
            self.register_parameter(f"bias_{layer}", nn.Parameter(torch.zeros(width)))
        self.out = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, width)))

    def forward(
        self, shift_PH: torch.Tensor, scale_PH: torch.Tensor | None, items: torch.Tensor
    ) -> torch.Tensor:
        """Return the network's outputs for shift + scale * item, or for relu(shift + item).

        Args:
            scale_PH: None for the second form.
            items: [U, H] for all states, which gives [P, U], or [P, K, H], which gives [P, K].
        """
        first = self._drawing[0]
        # one key per state: drawing by key makes dropout independent of the parts
        keys = first.keys if first.drops else None
        # states per part, so that a part [rows, items, H] has at most ELEMENTWISE_VALUES values
        rows = max(
            1, ELEMENTWISE_VALUES[items.device.type] // max(1, items.shape[-2] * items.shape[-1])
        )
        parts = []
        # one part even without states, because cat needs a tensor
        for start in range(0, max(1, len(shift_PH)), rows):
            part = slice(start, start + rows)
            arguments = (
                shift_PH[part],
                None if scale_PH is None else scale_PH[part],
                items if items.dim() == 2 else items[part],
                None if keys is None else keys[part],
            )
            if torch.is_grad_enabled():
                # not reentrant: parameters get gradients even if no argument requires one
                parts.append(checkpoint(self._score, *arguments, use_reentrant=False))
            else:
                parts.append(self._score(*arguments))
        return torch.cat(parts)

    def _score(
        self,
        shift: torch.Tensor,
        scale: torch.Tensor | None,
        items: torch.Tensor,
        keys: torch.Tensor | None,
    ) -> torch.Tensor:
        if keys is None:
            return self._network(shift, scale, items)
        with drawing(self._drawing, lambda: keys):
            return self._network(shift, scale, items)

    def _network(
        self, shift: torch.Tensor, scale: torch.Tensor | None, items: torch.Tensor
    ) -> torch.Tensor:
        if scale is None:
            # DeepFM: the first layer over [history, candidate], as the sum of its two parts
            pairs = torch.relu(shift[:, None] + items)
        else:
            # NFM: bi-interaction pooling c + s * t
            pairs = shift[:, None] + scale[:, None] * items
        values = self.dropouts[0](pairs)
        for layer in range(self.layers):
            weight = getattr(self, f"weight_{layer}").to(values.dtype)
            bias = getattr(self, f"bias_{layer}").to(values.dtype)
            values = self.dropouts[layer + 1](torch.relu(linear(values, weight, bias)))
        return linear(values, self.out.to(values.dtype))[..., 0]


def _first_order(width: int) -> nn.Linear:
    layer = nn.Linear(width, 1)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class _HistoryFeatures(NamedTuple):
    """Sums over the weighted history vectors up to each wanted position."""

    sum_PD: torch.Tensor
    """Sum of the vectors: s."""
    pairs_PD: torch.Tensor
    """Sum of the products of all pairs: c."""


def _history_features(history: History) -> _HistoryFeatures:
    """Return the features of histories at the wanted positions."""
    items_BLD = history.padded_items()
    mask_BL = history.mask_BL
    sum_PD = history.at_rows(mean_so_far(items_BLD, mask_BL))
    count_P1 = history.at_rows(mask_BL.cumsum(dim=1).clamp(min=1))[:, None]
    # weights are 1 / count, so the squares of weighted vectors have 1 / count^2
    squares_PD = history.at_rows(mean_so_far(items_BLD.square(), mask_BL)) / count_P1
    return _HistoryFeatures(sum_PD, (sum_PD.square() - squares_PD) / 2)
