"""SASRec: self-attention over the history.

Linear layers, norms and dropout run on the computed positions only, so padding costs nothing there.

Shape letters: B users, H heads, L positions, R computed positions, W width of a head, D width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import ALL_ROWS, History, SequenceModel


class SASRec(SequenceModel):
    """Kang and McAuley, Self-Attentive Sequential Recommendation, 2018.

    With the details of MicroLens' code: learned positions, LayerNorm then dropout on the input,
    causal attention without biases, ReLU feed-forward of 4 D, Xavier-normal weights. Normalization
    comes after each sublayer, or before it with `pre_norm`.
    """

    computes_histories: ClassVar[bool] = True

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

    def forward(self, history: History) -> torch.Tensor:
        # right-aligned, so the newest item has the last position in histories of any length
        first = self.positions.num_embeddings - history.length
        positions_RD = self.positions(history.places_R + first)
        states_RD = self.dropout(self.norm(history.items_at_rows() + positions_RD))
        shape = (history.length, history.length)
        causal = torch.ones(shape, dtype=torch.bool, device=states_RD.device).tril()
        # A padding slot attends to itself only, so that no row of the softmax is empty. No real
        # position sees it.
        itself = torch.eye(history.length, dtype=torch.bool, device=states_RD.device)
        allowed = ((causal & history.mask_BL[:, None, :]) | itself)[:, None]
        for height, block in enumerate(self.blocks, start=1):
            # Every block but the top one needs all positions, because the next one attends to them.
            # In training the top one needs them too: its dropout draws for all of them.
            is_top = height == len(self.blocks) and not self.training
            states_RD = block(states_RD, history, allowed, history.wanted_P if is_top else ALL_ROWS)
        states_PD = states_RD[history.wanted_P] if self.training else states_RD
        states: torch.Tensor = self.last_norm(states_PD)
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

    def forward(
        self,
        values: torch.Tensor,
        history: History,
        allowed: torch.Tensor,
        rows: torch.Tensor | slice,
    ) -> torch.Tensor:
        """Return the values of these rows after the block, attending to all positions."""
        first, second = self.norms
        if self.pre_norm:
            values = values[rows] + self._attend(first(values), history, allowed, rows)
            updated: torch.Tensor = values + self.dropout(self.feed_forward(second(values)))
            return updated
        values = first(values[rows] + self._attend(values, history, allowed, rows))
        normed: torch.Tensor = second(values + self.dropout(self.feed_forward(values)))
        return normed

    def _attend(
        self,
        values: torch.Tensor,
        history: History,
        allowed: torch.Tensor,
        rows: torch.Tensor | slice,
    ) -> torch.Tensor:
        def split(padded: torch.Tensor) -> torch.Tensor:
            return padded.view(*padded.shape[:2], self.heads, -1).transpose(1, 2)

        query = split(history.padded(self.query(values[rows]), rows))
        key = split(history.padded(self.key(values)))
        value = split(history.padded(self.value(values)))
        if self.attention_dropout.drops:
            mixed_BHLW = self._attention_with_dropout(query, key, value, history, allowed)
        else:
            mixed_BHLW = scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        mixed = history.at_rows(mixed_BHLW.transpose(1, 2))[rows].flatten(-2)
        attended: torch.Tensor = self.dropout(self.out(mixed))
        return attended

    def _attention_with_dropout(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        history: History,
        allowed: torch.Tensor,
    ) -> torch.Tensor:
        """Return the attention's output, computed step by step.

        torch's own attention draws its dropout from a generator, which depends on the rank.
        """
        # softmax(Q K / sqrt(width of a head)) V, with dropout of the weights
        scores_BHLL = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weights_BHLL = scores_BHLL.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
        # a row is a position; heads and the positions attended to are its columns
        keep_RHL = self.attention_dropout.mask((self.heads, history.length)).to(value.dtype)
        keep_BHLL = history.padded(keep_RHL).transpose(1, 2)
        dropped_BHLL: torch.Tensor = weights_BHLL * keep_BHLL * self.attention_dropout.scale
        return dropped_BHLL @ value
