"""Reduce an item's K vectors, such as those of stages or frames, to one.

Shape letters: n items, K vectors per item.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mlrec.models.encoders.side_network import SidePooling

MAX_HEADS = 4
"""Largest number of attention heads; fewer where it does not divide the width."""
LATENTS = 4
"""Number of learned queries of `latent`."""
MAX_LATENT_WIDTH = 128
"""Width of these queries; that of the vectors if they are narrower."""


class MeanPooling(nn.Module):
    """Average the vectors: [n, K, width] to [n, width]."""

    def __init__(self, num_rows: int, width: int) -> None:
        del num_rows, width  # the mean fits any
        super().__init__()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.mean(dim=1)


class MixPooling(nn.Module):
    """Learn one weight per row for all items; the softmax of the weights starts as the mean.

    Peters et al., Deep Contextualized Word Representations, 2018.
    """

    def __init__(self, num_rows: int, width: int) -> None:
        del width  # a weight belongs to a whole vector
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_rows))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        weights_K = self.logits.softmax(dim=0)
        mixed: torch.Tensor = torch.einsum("k,nkw->nw", weights_K.to(vectors.dtype), vectors)
        return mixed


class AttentionPooling(nn.Module):
    """Weigh each item's own vectors: one learned query per head scores them.

    The weights of a head apply to its share of the width. They start equal, as the mean. A learned
    bias per row lets the order of frames matter.

    Lin et al., A Structured Self-attentive Sentence Embedding, 2017.
    """

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.heads = _largest_divisor(width, MAX_HEADS)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        # the product of a query and a matrix of keys is one vector per head
        self.queries = nn.Linear(width, self.heads, bias=False)
        nn.init.zeros_(self.queries.weight)
        self.row_bias = nn.Parameter(torch.zeros(num_rows, self.heads))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        weights_nKh = (self.queries(self.norm(vectors)) + self.row_bias).softmax(dim=1)
        parts_nKhw = vectors.view(*vectors.shape[:2], self.heads, -1)
        weighted: torch.Tensor = (weights_nKh[..., None] * parts_nKhw).sum(dim=1)
        return weighted.flatten(1)


class LatentPooling(nn.Module):
    """Add to the mean what learned latent queries read from the vectors by cross-attention.

    The output layer starts at zero, so training starts from the mean. Each row has a learned
    position, so the order of frames matters.

    Jaegle et al., Perceiver: General Perception with Iterative Attention, 2021.
    """

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        inner = min(width, MAX_LATENT_WIDTH)
        self.heads = _largest_divisor(inner, MAX_HEADS)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        # an embedding, because tables of positions have no weight decay
        self.positions = nn.Embedding(num_rows, inner)
        nn.init.zeros_(self.positions.weight)
        self.queries = nn.Parameter(torch.randn(LATENTS, inner))
        self.activation = nn.GELU()
        self.up = nn.Linear(LATENTS * inner, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        normed = self.norm(vectors)
        positions_Ki = self.positions(torch.arange(vectors.shape[1], device=vectors.device))
        keys = self._split(self.key(normed) + positions_Ki)
        values = self._split(self.value(normed) + positions_Ki)
        queries = self._split(self.queries.expand(len(vectors), -1, -1))
        # [n, heads, LATENTS, width of a head]
        latents = scaled_dot_product_attention(queries, keys, values)
        read = self.activation(latents.transpose(1, 2).flatten(1))
        pooled: torch.Tensor = vectors.mean(dim=1) + self.up(read)
        return pooled

    def _split(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return [n, rows, inner] as [n, heads, rows, width of a head]."""
        return vectors.view(*vectors.shape[:2], self.heads, -1).transpose(1, 2)


def _largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`."""
    return max(divisor for divisor in range(1, limit + 1) if number % divisor == 0)


POOLINGS: dict[str, Callable[[int, int], nn.Module]] = {
    "mean": MeanPooling,
    "mix": MixPooling,
    "attention": AttentionPooling,
    "latent": LatentPooling,
    "side": SidePooling,
}
"""Every pooling by the name that `item.options.ENCODER.pooling` uses. Its arguments are the number
of rows (K) and their width."""
