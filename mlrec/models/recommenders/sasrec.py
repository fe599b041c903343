"""SASRec: self-attention over the history.

Shape letters: B users, H heads, L positions, D width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import ALL, SequenceModel


class SASRec(SequenceModel):
    """Kang and McAuley, Self-Attentive Sequential Recommendation, 2018.

    With the details of MicroLens' code: learned positions, LayerNorm then dropout on the input,
    causal attention without biases, ReLU feed-forward of 4 D, Xavier-normal weights. Normalization
    comes after each sublayer, or before it with `pre_norm`.
    """

    def __init__(
        self,
        width: int,
        length: int,
        layers: int = 2,
        heads: int = 2,
        dropout: float = 0.1,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"recommender.width is {width}, which {heads} heads do not divide; "
                "change one of them"
            )
        self.positions = nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout, pre_norm) for _ in range(layers))
        self.last_norm = nn.LayerNorm(width) if pre_norm else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.xavier_normal_(module.weight)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self, history_BLD: torch.Tensor, mask_BL: torch.Tensor, wanted: slice = ALL
    ) -> torch.Tensor:
        length = history_BLD.shape[1]
        longest = self.positions.num_embeddings
        # right-aligned, so the newest item has the last position in histories of any length
        places = torch.arange(longest - length, longest, device=mask_BL.device)
        states_BLD = self.dropout(self.norm(history_BLD + self.positions(places)))
        causal = torch.ones(length, length, dtype=torch.bool, device=mask_BL.device).tril()
        # A padding slot attends to itself only, so that no row of the softmax is empty. No real
        # position sees it.
        itself = torch.eye(length, dtype=torch.bool, device=mask_BL.device)
        allowed = ((causal & mask_BL[:, None, :]) | itself)[:, None]
        for height, block in enumerate(self.blocks, start=1):
            # every block but the top one needs all positions, because the next one attends to them
            positions = wanted if height == len(self.blocks) else ALL
            states_BLD = block(states_BLD, allowed, positions)
        states: torch.Tensor = self.last_norm(states_BLD)
        return states


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pre_norm = pre_norm
        self.attention_dropout = Dropout(dropout)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, values: torch.Tensor, allowed: torch.Tensor, wanted: slice) -> torch.Tensor:
        """Return the wanted positions' values after the block, attending to all positions."""
        first, second = self.norms
        if self.pre_norm:
            # the residual is for the wanted positions, but attention reads all of them
            values = values[:, wanted] + self._attend(first(values), allowed, wanted)
            updated: torch.Tensor = values + self.dropout(self.feed_forward(second(values)))
            return updated
        values = first(values[:, wanted] + self._attend(values, allowed, wanted))
        normed: torch.Tensor = second(values + self.dropout(self.feed_forward(values)))
        return normed

    def _attend(self, values: torch.Tensor, allowed: torch.Tensor, wanted: slice) -> torch.Tensor:
        def split(projected: torch.Tensor) -> torch.Tensor:
            return projected.view(*projected.shape[:2], self.heads, -1).transpose(1, 2)

        query = split(self.query(values[:, wanted]))
        key = split(self.key(values))
        value = split(self.value(values))
        if self.attention_dropout.drops:
            mixed = self._attention_with_dropout(query, key, value, allowed[:, :, wanted])
        else:
            mixed = scaled_dot_product_attention(query, key, value, attn_mask=allowed[:, :, wanted])
        attended: torch.Tensor = self.dropout(self.out(mixed.transpose(1, 2).flatten(-2)))
        return attended

    def _attention_with_dropout(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor
    ) -> torch.Tensor:
        """Return the attention's output, computed step by step.

        torch's own attention draws its dropout from a generator, which depends on the rank.
        """
        # softmax(Q K / sqrt(width of a head)) V, with dropout of the weights
        scores_BHLL = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weights_BHLL = scores_BHLL.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
        # a row is a position; heads and the positions attended to are its columns
        dropped_BLHL: torch.Tensor = self.attention_dropout(weights_BHLL.transpose(1, 2))
        return dropped_BLHL.transpose(1, 2) @ value
