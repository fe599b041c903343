"""Features that were extracted before: a frozen table of vectors, looked up by item id."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from mlrec import storage
from mlrec.data.features.files import REMEDY, TABLE_FILE, read_features
from mlrec.data.features.tables import table_bytes
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow, kept_file


class Vectors(Encoder):
    """The features of a folder or of a Parquet file, joined by raw ids with the data set's items.

    Every item that training and ranking use has a vector. The others, and padding, have zeros.
    """

    joins_by_raw_id = True

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        if not row.checkpoint:
            raise ValueError(f"item.options.{context.name}.checkpoint is not set. {REMEDY}.")
        self._source = (
            row.checkpoint if context.files is None else str(kept_file(context.files, TABLE_FILE))
        )
        features = read_features(self._source)
        items = context.known_items()
        rows_N = features.rows_of(items)
        self.remarks = tuple(f"{context.name}: {remark}" for remark in features.remarks(items))
        self.spec = InputSpec(Modality.ID)
        self.width = features.width
        table_N1 = torch.zeros(len(rows_N) + 1, self.width)
        has_vector_N = rows_N >= 0
        table_N1[1:][torch.from_numpy(has_vector_N)] = torch.from_numpy(
            features.vectors_nX[rows_N[has_vector_N]]
        )
        self.table: torch.Tensor
        self.register_buffer(
            "table", table_N1, persistent=False
        )  # a copy in each checkpoint would be of no use

    def save_files(self, folder: Path) -> None:
        features = read_features(self._source)
        storage.write_bytes(
            str(folder / TABLE_FILE), table_bytes(features.raw_ids_n, features.vectors_nX)
        )

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
