"""HSTU: attention without softmax.

Linear layers, norms and dropout run on the computed positions only. Attention pads the histories of
a span to its length.

Shape letters: b users of a span, l its positions, R computed positions of all spans, P wanted
positions, L positions of a history, H heads, W width of a head, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import layer_norm, silu

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import SequenceModel
from mlrec.models.recommenders.histories import History, causal_mask, spread


class HSTU(SequenceModel):
    """Zhai et al., Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
    Generative Recommendations, 2024.

    Each layer computes U, V, Q, K = SiLU of one projection of the normalized input. The attention
    weights are SiLU(Q K + bias of the distance) / L instead of a softmax. The output is the input
    plus a projection of norm(weights V) times the gate U. The relative bias uses positions only,
    because there are no timestamps.
    """

    computes_histories: ClassVar[bool] = True

    def __init__(
        self, width: int, length: int, layers: int = 2, heads: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"recommender.width is {width}, which {heads} heads do not divide; "
                "change one of them"
            )
        self.positions = nn.Embedding(length, width)
        nn.init.xavier_normal_(self.positions.weight)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(width, length, heads, dropout) for _ in range(layers))
        self.last_norm = nn.LayerNorm(width)

    def forward(self, history: History) -> torch.Tensor:
        # right-aligned, so the newest item has the last position in histories of any length
        first = self.positions.num_embeddings - history.length
        states_RD = self.dropout(history.items_at_rows() + self.positions(history.places_R + first))
        allowed = [causal_mask(span, itself=False)[:, None] for span in history.slots.spans]
        rows_of_layers = history.rows_of_layers(len(self.layers), self.training)
        for layer, rows in zip(self.layers, rows_of_layers, strict=True):
            states_RD = layer(states_RD, history, allowed, rows)
        states_PD = states_RD[history.wanted_P] if self.training else states_RD
        states: torch.Tensor = self.last_norm(states_PD)
        return states


class _Layer(nn.Module):
    def __init__(self, width: int, length: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.length = length
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 4 * width)
        self.bias = nn.Embedding(length, heads)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        nn.init.zeros_(self.bias.weight)
        for linear in (self.project, self.out):
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        values: torch.Tensor,
        history: History,
        allowed: Sequence[torch.Tensor],
        rows: torch.Tensor | slice,
    ) -> torch.Tensor:
        """Return the values of these rows after the layer, attending to all positions."""
        gate, value, query, key = silu(self.project(self.norm(values))).chunk(4, dim=-1)
        query = spread(query[rows], rows, len(values))
        mixed = []
        for span, allowed_bll in zip(history.slots.spans, allowed, strict=True):
            mixed_bHlW = self._attend(
                span.padded(query[span.rows]),
                span.padded(key[span.rows]),
                span.padded(value[span.rows]),
                allowed_bll,
            )
            mixed.append(span.at_rows(mixed_bHlW.transpose(1, 2)))
        mixed_RD = torch.cat(mixed).flatten(-2)[rows]
        normed = layer_norm(mixed_RD, mixed_RD.shape[-1:])
        updated: torch.Tensor = values[rows] + self.out(self.dropout(normed * gate[rows]))
        return updated

    def _attend(
        self,
        query_blD: torch.Tensor,
        key_blD: torch.Tensor,
        value_blD: torch.Tensor,
        allowed: torch.Tensor,
    ) -> torch.Tensor:
        """Return the weighted sums of values, [b, H, l, W]."""
        users, length, width = query_blD.shape
        shape = (users, length, self.heads, width // self.heads)
        query, key, value = (
            part.view(shape).transpose(1, 2) for part in (query_blD, key_blD, value_blD)
        )
        place_l = torch.arange(length, device=query.device)
        # `allowed` masks later positions, whose distance is clamped to a valid index
        distance_ll = (place_l[:, None] - place_l).clamp(min=0)
        scores_bHll = query @ key.transpose(-1, -2)
        # The longest history as L, so that padding changes nothing. Masked weights are set to zero
        # below, because SiLU of minus infinity is NaN.
        weights_bHll = silu(scores_bHll + self.bias(distance_ll).permute(2, 0, 1)) / self.length
        return (weights_bHll * allowed) @ value
