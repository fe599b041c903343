"""Features extracted earlier: a frozen table of vectors, looked up by item number.

An item may have several, such as those of its title, cover and video. Each is an encoder
features/NAME with options of its own, and all have the same row.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from mlrec import storage
from mlrec.data.features.files import read_features
from mlrec.data.features.info import REMEDY, TABLE_FILE
from mlrec.data.features.tables import table_bytes
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow, saved_file

PREFIX = "features/"
"""Beginning of the name of each encoder of features."""
ROW_NAME = "features/vectors"
"""Row of ENCODERS that all encoders of features have."""
_NAME = re.compile(r"features/[A-Za-z0-9_-]{1,64}", re.ASCII)


def is_features(encoder: str) -> bool:
    """Return whether an encoder's name is features/NAME, with any letters, digits, `_` and `-`."""
    return _NAME.fullmatch(encoder) is not None


class Vectors(Encoder):
    """Features of a folder or a file, joined with the items by raw ids.

    Forward maps item numbers, int64 [n], to vectors [n, width].

    Every item that training and ranking use has a vector, unless the row allows missing ones. All
    others and padding have zeros.
    """

    joins_by_raw_id = True

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        if not row.checkpoint:
            raise ValueError(f"item.options.{context.name}.checkpoint is not set. {REMEDY}.")
        self._source = row.checkpoint
        if context.files is not None:
            self._source = str(saved_file(context.files, TABLE_FILE))
        self._name = context.name.removeprefix(PREFIX)
        self._items = items = context.known_items()
        features = read_features(self._source, items, self._name)
        self.spec = InputSpec(Modality.ID)
        self.width = features.width
        # rows_N has the features' row of each item, or -1; the table has one more row for padding
        rows_N = features.rows_of(items, may_miss=row.missing == "zeros")
        self.remarks = tuple(f"{context.name}: {remark}" for remark in features.remarks(items))
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
        features = read_features(self._source, self._items, self._name)
        content = table_bytes(features.raw_ids_n, features.vectors_nX)
        storage.write_bytes(str(folder / TABLE_FILE), content)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        return self.table[items]

    def stages(self) -> list[nn.Module]:
        return []


FEATURE_ENCODERS = {
    ROW_NAME: EncoderRow(
        build=Vectors,
        modality=Modality.ID,
        paper="of the encoder that made them; any features/NAME is a row like this one",
        tuning="frozen",
    ),
}
