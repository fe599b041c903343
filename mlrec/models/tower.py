"""The item tower: encoders, projections and fusion; the heavy half of the model, run in chunks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mlrec.config import ItemConfig
from mlrec.distributed import shares
from mlrec.models.batchnorm import prepare_batch_norms, repeated, still_parts
from mlrec.models.encoders import ENCODERS, Encoder, EncoderContext, tune
from mlrec.models.fusion import FUSIONS
from mlrec.schema import InputSpec, lookup


class ItemTower(nn.Module):
    """Media of n items to item vectors [n, D]."""

    def __init__(self, config: ItemConfig, width: int, catalogue_size: int) -> None:
        super().__init__()
        encoders: list[Encoder] = []
        for name in config.encoders:
            row = lookup(ENCODERS, name, "encoder").changed(name, config.options.get(name, {}))
            tuning = row.tuning or config.tuning
            encoder = row.build(row, EncoderContext(width, catalogue_size, scratch=tuning == "scratch", name=name))
            tune(encoder, tuning)
            prepare_batch_norms(encoder, name, tuning, frozen=config.batchnorm == "frozen")
            encoders.append(encoder)
        self.encoders = nn.ModuleList(encoders)
        self.heads = nn.ModuleList(encoder.head(width) for encoder in encoders)
        self.fusion = lookup(FUSIONS, config.fusion, "fusion")(len(encoders), width)
        self.specs: tuple[InputSpec, ...] = tuple(encoder.spec for encoder in encoders)
        self.chunk = config.chunk
        self._still = list(still_parts(self.encoders))

    def train(self, mode: bool = True) -> ItemTower:
        """Training mode for what is trained: frozen parts keep their statistics and have no dropout."""
        super().train(mode)
        for module in self._still:
            module.eval()
        return self

    def forward(self, media: Mapping[InputSpec, torch.Tensor]) -> torch.Tensor:
        vectors = []
        for encoder, head, spec in zip(self.encoders, self.heads, self.specs, strict=True):
            found = encoder(media[spec])
            weight = next(head.parameters(), found)  # a table of features stays in fp32 in a bf16 run
            vectors.append(head(found.to(weight.dtype)))
        fused: torch.Tensor = self.fusion(vectors)
        return fused

    def encode(self, media: Mapping[InputSpec, torch.Tensor], most: int) -> torch.Tensor:
        """Vectors of this rank's n items [n, D], a chunk at a time; with gradient, a chunk's activations live in its backward.

        Args:
            most: the largest n of any rank. All ranks run the same number of chunks, of nearly equal size: under ZeRO-3 a rank
                that runs fewer would leave the others waiting for its parameters.
        """
        count = len(next(iter(media.values())))
        # without a trained encoder there are no activations to save memory on, only a second forward to pay
        saving = torch.is_grad_enabled() and any(p.requires_grad for p in self.encoders.parameters())
        sizes = shares(count, max(1, -(-most // self.chunk)))
        vectors, start = [], 0
        for size in sizes:
            # only a rank with fewer items than chunks has an empty one; it runs the encoder on one item and keeps nothing of it
            part = {spec: _rows(tensor, start, size) for spec, tensor in media.items()}
            encoded = checkpoint(self, part, use_reentrant=False, context_fn=self._twice) if saving else self(part)
            vectors.append(encoded[:size])
            start += size
        return torch.cat(vectors)

    def _twice(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of a chunk's forward and of its repetition for the backward, which must not count in statistics again."""
        return nullcontext(), repeated(self.encoders)


def _rows(tensor: torch.Tensor, start: int, size: int) -> torch.Tensor:
    return tensor[start : start + size] if size else tensor.new_zeros((1, *tensor.shape[1:]))
