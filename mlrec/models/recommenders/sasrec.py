"""SASRec: self-attention over the history.

Linear layers, norms and dropout run on the computed positions only. Attention pads the histories of
a span to its length.

Shape letters: b users of a span, l its positions, r its computed positions, R those of all spans,
P wanted positions, L positions of a history, H heads, W width of a head, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import SequenceModel
from mlrec.models.recommenders.histories import History, causal_mask, spread


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
        # A padding slot attends to itself only, so that no row of the softmax is empty. No real
        # position sees it.
        allowed = [causal_mask(span, itself=True)[:, None] for span in history.slots.spans]
        rows_of_blocks = history.rows_of_layers(len(self.blocks), self.training)
        for block, rows in zip(self.blocks, rows_of_blocks, strict=True):
            states_RD = block(states_RD, history, allowed, rows)
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
        allowed: Sequence[torch.Tensor],
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
        allowed: Sequence[torch.Tensor],
        rows: torch.Tensor | slice,
    ) -> torch.Tensor:
        query_RD = spread(self.query(values[rows]), rows, len(values))
        key_RD = self.key(values)
        value_RD = self.value(values)
        drops = self.attention_dropout.drops
        # a row is a position; heads and the positions attended to are its columns
        keep_RHL = self.attention_dropout.mask((self.heads, history.length)) if drops else None
        mixed = []
        for span, allowed_bll in zip(history.slots.spans, allowed, strict=True):
            parts = (query_RD[span.rows], key_RD[span.rows], value_RD[span.rows])
            query, key, value = (self._heads(span.padded(part)) for part in parts)
            if keep_RHL is None:
                mixed_bHlW = scaled_dot_product_attention(query, key, value, attn_mask=allowed_bll)
            else:
                # the last l columns belong to the span's positions
                keep_rHl = keep_RHL[span.rows, :, -span.length :].to(value.dtype)
                keep_bHll = span.padded(keep_rHl).transpose(1, 2)
                mixed_bHlW = self._attention_with_dropout(query, key, value, allowed_bll, keep_bHll)
            mixed.append(span.at_rows(mixed_bHlW.transpose(1, 2)))
        mixed_RD = torch.cat(mixed).flatten(-2)
        attended: torch.Tensor = self.dropout(self.out(mixed_RD[rows]))
        return attended

    def _heads(self, values_blD: torch.Tensor) -> torch.Tensor:
        """Return the values as [b, H, l, W]."""
        users, length, width = values_blD.shape
        return values_blD.view(users, length, self.heads, width // self.heads).transpose(1, 2)

    def _attention_with_dropout(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        allowed: torch.Tensor,
        keep_bHll: torch.Tensor,
    ) -> torch.Tensor:
        """Return the attention's output, computed step by step.

        torch's own attention draws its dropout from a generator, which depends on the rank.
        """
        # softmax(Q K / sqrt(width of a head)) V, with dropout of the weights
        scores_bHll = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weights_bHll = scores_bHll.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
        dropped_bHll: torch.Tensor = weights_bHll * keep_bHll * self.attention_dropout.scale
        return dropped_bHll @ value
