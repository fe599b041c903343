"""Features extracted earlier: a frozen table of vectors, looked up by item number."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from mlrec import storage
from mlrec.data.features.files import read_features
from mlrec.data.features.info import REMEDY, TABLE_FILE
from mlrec.data.features.tables import table_bytes
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow, saved_file


class Vectors(Encoder):
    """Features of a folder or Parquet file, joined with the items by raw ids.

    Forward maps item numbers, int64 [n], to vectors [n, width].

    Every item that training and ranking use has a vector. Other items and padding have zeros.
    """

    joins_by_raw_id = True

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        if not row.checkpoint:
            raise ValueError(f"item.options.{context.name}.checkpoint is not set. {REMEDY}.")
        self._source = row.checkpoint
        if context.files is not None:
            self._source = str(saved_file(context.files, TABLE_FILE))
        features = read_features(self._source)
        items = context.known_items()
        self.remarks = tuple(f"{context.name}: {remark}" for remark in features.remarks(items))
        self.spec = InputSpec(Modality.ID)
        self.width = features.width
        # rows_N has the features' row of each item, or -1; the table has one more row for padding
        rows_N = features.rows_of(items)
        has_vector_N = rows_N >= 0
        vectors = torch.from_numpy(features.vectors_nX[rows_N[has_vector_N]])
        table_N1 = torch.zeros(len(rows_N) + 1, self.width)
        table_N1[1:][torch.from_numpy(has_vector_N)] = vectors
        self.table: torch.Tensor
        # not persistent: the table never changes, so a copy in each checkpoint would be useless
        self.register_buffer("table", table_N1, persistent=False)

    def save_files(self, folder: Path) -> None:
        # All vectors with their raw ids, not the table: another packing of the data numbers its
        # items differently.
        features = read_features(self._source)
        content = table_bytes(features.raw_ids_n, features.vectors_nX)
        storage.write_bytes(str(folder / TABLE_FILE), content)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        return self.table[items]

    def stages(self) -> list[nn.Module]:
        return []


FEATURE_ENCODERS = {
    "features/vectors": EncoderRow(
        build=Vectors,
        modality=Modality.ID,
        paper="of the encoder that made them",
        tuning="frozen",
    ),
}
