"""HSTU: attention without softmax.

Shape letters: B users, L positions, D width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import layer_norm, silu

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import ALL, SequenceModel


class HSTU(SequenceModel):
    """Zhai et al., Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
    Generative Recommendations, 2024.

    Each layer computes U, V, Q, K = SiLU of one projection of the normalized input. The attention
    weights are SiLU(Q K + bias of the distance) / L instead of a softmax. The output is the input
    plus a projection of norm(weights V) times the gate U. The relative bias uses positions only,
    because there are no timestamps.
    """

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

    def forward(
        self, history_BLD: torch.Tensor, mask_BL: torch.Tensor, wanted: slice = ALL
    ) -> torch.Tensor:
        length = history_BLD.shape[1]
        longest = self.positions.num_embeddings
        # right-aligned, so the newest item has the last position in histories of any length
        places = torch.arange(longest - length, longest, device=mask_BL.device)
        states_BLD = self.dropout(history_BLD + self.positions(places))
        # `allowed` masks later positions, whose distance is clamped to a valid index
        distances = (places[:, None] - places).clamp(min=0)
        allowed = (places[:, None] >= places) & mask_BL[:, None, :]
        for height, layer in enumerate(self.layers, start=1):
            # every layer but the top one needs all positions, because the next one attends to them
            positions = wanted if height == len(self.layers) else ALL
            states_BLD = layer(states_BLD, distances, allowed[:, None], positions)
        states: torch.Tensor = self.last_norm(states_BLD)
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
        self, values: torch.Tensor, distances: torch.Tensor, allowed: torch.Tensor, wanted: slice
    ) -> torch.Tensor:
        """Return the wanted positions' values after the layer, attending to all positions."""
        gate, *parts = silu(self.project(self.norm(values))).chunk(4, dim=-1)
        value, query, key = (
            part.view(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in parts
        )
        scores = query[:, :, wanted] @ key.transpose(-1, -2)
        # The longest history as L, so that padding changes nothing. Masked weights are set to zero
        # below, because SiLU of minus infinity is NaN.
        weights = silu(scores + self.bias(distances[wanted]).permute(2, 0, 1)) / self.length
        mixed = ((weights * allowed[:, :, wanted]) @ value).transpose(1, 2).flatten(-2)
        normed = layer_norm(mixed, mixed.shape[-1:])
        updated: torch.Tensor = values[:, wanted] + self.out(self.dropout(normed * gate[:, wanted]))
        return updated
