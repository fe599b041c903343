"""eSASRec: SASRec with the gated layers of LiGR.

Shape letters: B users, L positions, D width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import silu

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.sasrec import Block, SASRec


class ESASRec(SASRec):
    """Tikhonovich et al., eSASRec: Enhancing Transformer-based Recommendations in a Modular
    Fashion, 2025.

    SASRec with the layers of LiGR (Borisyuk et al., From Features to Transformers: Redefining
    Ranking for Scalable Impact, 2025): normalization before each sublayer, SwiGLU as the
    feed-forward network, and a sigmoid gate on each sublayer's output. The authors train it with
    a sampled softmax (`loss.name=sampled_softmax`).
    """

    def __init__(
        self, width: int, length: int, layers: int = 2, heads: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__(width, length, layers, heads, dropout, pre_norm=True)

    def _block(self, width: int, heads: int, dropout: float, pre_norm: bool) -> Block:
        return _GatedBlock(width, heads, dropout, pre_norm)


class _GatedBlock(Block):
    def __init__(self, width: int, heads: int, dropout: float, pre_norm: bool) -> None:
        super().__init__(width, heads, dropout, pre_norm)
        self.feed_forward = nn.Sequential(
            _SwiGLU(width), Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, values: torch.Tensor, allowed: torch.Tensor, wanted: slice) -> torch.Tensor:
        attention_norm, feed_forward_norm = self.norms
        attention_gate, feed_forward_gate = self.gates
        attended = self.attend(attention_norm(values), allowed, wanted)
        values = values[:, wanted]
        # gates read the residual stream before normalization
        values = values + attention_gate(values).sigmoid() * attended
        fed = self.dropout(self.feed_forward(feed_forward_norm(values)))
        gated: torch.Tensor = values + feed_forward_gate(values).sigmoid() * fed
        return gated


class _SwiGLU(nn.Module):
    """Shazeer, GLU Variants Improve Transformer, 2020: from D to 4 D values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 4 * width, bias=False)
        self.value = nn.Linear(width, 4 * width, bias=False)

    def forward(self, values_BLD: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = silu(self.gate(values_BLD)) * self.value(values_BLD)
        return product
