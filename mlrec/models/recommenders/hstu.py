"""HSTU: attention without softmax.

Linear layers, norms and dropout run on the computed positions only, so padding costs nothing there.

Shape letters: B users, H heads, L positions, R computed positions, W width of a head, D width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import layer_norm, silu

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import ALL_ROWS, History, SequenceModel


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
        place_L = torch.arange(history.length, device=states_RD.device)
        # `allowed` masks later positions, whose distance is clamped to a valid index
        distances = (place_L[:, None] - place_L).clamp(min=0)
        allowed = (place_L[:, None] >= place_L) & history.mask_BL[:, None, :]
        for height, layer in enumerate(self.layers, start=1):
            # Every layer but the top one needs all positions, because the next one attends to them.
            # In training the top one needs them too: its dropout draws for all of them.
            is_top = height == len(self.layers) and not self.training
            rows = history.wanted_P if is_top else ALL_ROWS
            states_RD = layer(states_RD, history, distances, allowed[:, None], rows)
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
        distances: torch.Tensor,
        allowed: torch.Tensor,
        rows: torch.Tensor | slice,
    ) -> torch.Tensor:
        """Return the values of these rows after the layer, attending to all positions."""
        gate, *parts = silu(self.project(self.norm(values))).chunk(4, dim=-1)
        shape = (*history.mask_BL.shape, self.heads, -1)
        value, query, key = (history.padded(part).view(shape).transpose(1, 2) for part in parts)
        scores = query @ key.transpose(-1, -2)
        # The longest history as L, so that padding changes nothing. Masked weights are set to zero
        # below, because SiLU of minus infinity is NaN.
        weights = silu(scores + self.bias(distances).permute(2, 0, 1)) / self.length
        mixed_BHLW = (weights * allowed) @ value
        mixed = history.at_rows(mixed_BHLW.transpose(1, 2))[rows].flatten(-2)
        normed = layer_norm(mixed, mixed.shape[-1:])
        updated: torch.Tensor = values[rows] + self.out(self.dropout(normed * gate[rows]))
        return updated
