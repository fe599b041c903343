"""Items by their id alone: an embedding table (the paper's IDRec)."""

from __future__ import annotations

import torch
from torch import nn

from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow


class IdEmbedding(Encoder):
    """One trained vector per item: int64 [n] to [n, width]."""

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        self.spec = InputSpec(Modality.ID)
        self.width = row.width or context.width
        # row 0 is padding
        self.embedding = nn.Embedding(context.catalogue_size + 1, self.width)
        nn.init.xavier_normal_(self.embedding.weight)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.embedding(items)
        return vectors

    def stages(self) -> list[nn.Module]:
        return [self.embedding]

    def head(self, width: int) -> nn.Module:
        # by default the table has the recommender's width, and a projection would add nothing
        return nn.Identity() if self.width == width else super().head(width)


ID_ENCODERS = {
    "id/embedding": EncoderRow(
        build=IdEmbedding,
        modality=Modality.ID,
        paper="Yuan et al., Where to Go Next for Recommender Systems? "
        "ID- vs. Modality-based Recommender Models Revisited, 2023",
        tuning="full",
    ),
}
