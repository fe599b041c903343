"""Trained tables, and items by their id alone (the paper's IDRec)."""

from __future__ import annotations

import torch
from torch import nn

from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow


class EmbeddingTable(Encoder):
    """An encoder that is one trained table and starts random. Subclasses set `spec`."""

    def __init__(self, num_rows: int, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        self.width = row.width or context.width
        self.embedding = nn.Embedding(num_rows, self.width)
        nn.init.xavier_normal_(self.embedding.weight)

    def stages(self) -> list[nn.Module]:
        return [self.embedding]

    def head(self, width: int) -> nn.Module:
        # by default the table has the recommender's width, and a projection would add nothing
        return nn.Identity() if self.width == width else super().head(width)


class IdEmbedding(EmbeddingTable):
    """One trained vector per item: int64 [n] to [n, width]."""

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        # row 0 is padding
        super().__init__(context.catalogue_size + 1, row, context)
        self.spec = InputSpec(Modality.ID)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.embedding(items)
        return vectors


ID_ENCODERS = {
    "id/embedding": EncoderRow(
        build=IdEmbedding,
        modality=Modality.ID,
        paper="Yuan et al., Where to Go Next for Recommender Systems? "
        "ID- vs. Modality-based Recommender Models Revisited, 2023",
        tuning="full",
    ),
}
