"""Features computed before training: vectors of a file, or in the samples of the data set.

An item may have several, such as those of its title, cover and video. Each is an encoder
features/NAME with options of its own, and all have the same row.

A file is a table in memory, looked up by item number. The data set's own vectors come with each
batch, as frames do, so a catalogue of any size fits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from mlrec import storage
from mlrec.data.features.files import read_features, read_shape, vectors_of_items
from mlrec.data.features.info import NAME, TABLE_FILE
from mlrec.data.features.join import ItemIds
from mlrec.data.features.tables import table_bytes
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow, saved_file
from mlrec.runtime.printable import printable

PREFIX = "features/"
"""Beginning of the name of each encoder of features."""
ROW_NAME = "features/vectors"
"""Row of ENCODERS that all encoders of features have."""


def is_features(encoder: str) -> bool:
    """Return whether an encoder's name is features/NAME, with any letters, digits, `_` and `-`."""
    name = encoder.removeprefix(PREFIX)
    return name != encoder and NAME.fullmatch(name) is not None


class Vectors(Encoder):
    """Features of a folder or a file, joined with the items by raw ids.

    Forward maps item numbers, int64 [n], to vectors [n, width], or [n, K, width] for K rows.

    Every item that training and ranking use has a vector, unless the row allows missing ones. All
    others and padding have zeros.
    """

    joins_by_raw_id = True

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        self._source = row.checkpoint
        if context.files is not None:
            self._source = str(saved_file(context.files, TABLE_FILE))
        self._name = context.name.removeprefix(PREFIX)
        self.spec = InputSpec(Modality.ID)
        self.table: torch.Tensor
        self._items = items = context.known_items()
        if context.shapes_only and not len(items.raw_ids_N):
            self._take_shape(context)
            return
        features = read_features(self._source, items, self._name)
        self.width = features.width
        self.rows = features.row_names
        # rows_N has the features' row of each item, or -1; the table has one more row for padding
        rows_N = features.rows_of(items, may_miss=row.missing == "zeros")
        self.remarks = tuple(f"{context.name}: {remark}" for remark in features.remarks(items))
        has_vector_N = rows_N >= 0
        vectors = torch.from_numpy(features.vectors_nX[rows_N[has_vector_N]])
        # float16 stays float16: K vectors per item take K times the memory
        table_N1 = torch.zeros(len(rows_N) + 1, *self.vector_shape, dtype=vectors.dtype)
        table_N1[1:][torch.from_numpy(has_vector_N)] = vectors
        # not persistent: the table never changes, so a copy in each checkpoint would be useless
        self.register_buffer("table", table_N1, persistent=False)

    def _take_shape(self, context: EncoderContext) -> None:
        """Build a table of the right shape, without the vectors.

        Raises:
            ValueError: the features are not on this machine.
        """
        if not storage.is_local(self._source):
            raise ValueError(
                f"item.options.{context.name}.checkpoint is {self._source}, and the width of its "
                "vectors is unknown without it. Set it to a file of this machine"
            )
        shape = read_shape(self._source, self._name)
        self.width = shape.width
        self.rows = shape.row_names
        dtype = torch.float16 if shape.dtype == np.float16 else torch.float32
        table_N1 = torch.zeros(context.catalogue_size + 1, *self.vector_shape, dtype=dtype)
        self.register_buffer("table", table_N1, persistent=False)

    def save_files(self, folder: Path) -> None:
        # All vectors with their raw ids, not the table: another packing of the data numbers its
        # items differently.
        features = read_features(self._source, self._items, self._name)
        content = table_bytes(features.raw_ids_n, features.vectors_nX)
        storage.write_bytes(str(folder / TABLE_FILE), content)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        return self.table[items].float()

    def stages(self) -> list[nn.Module]:
        return []


class StoredVectors(Encoder):
    """Features in the samples of the data set.

    Forward maps their vectors, float32 [n, width], to themselves.

    Items that lack a vector have zeros, if the row allows it.
    """

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        items = context.known_items()
        name = context.name.removeprefix(PREFIX)
        if name not in items.features:
            held = ", ".join(f"features/{held}" for held in items.features) or "no features"
            raise ValueError(
                f"item.options.{context.name}.checkpoint is not set, and "
                f"{printable(items.dataset)} holds {held}. Set it to a file of vectors, or pack "
                f"one with mlrec-shards make --features {name}=FILE"
            )
        features = items.features[name]
        self.spec = features.spec(name)
        self.width = features.width
        if features.num_missing:
            self._accept_missing(row, context.name, features.num_missing, items)

    def _accept_missing(self, row: EncoderRow, name: str, num_missing: int, items: ItemIds) -> None:
        """Add a remark about items without a vector.

        Raises:
            ValueError: the row does not allow them.
        """
        missing = f"{num_missing:,} of {items.num_packed:,} items of {printable(items.dataset)}"
        if row.missing == "error":
            raise ValueError(
                f"{name}: {missing} have no vector. Set item.options.{name}.missing=zeros to give "
                "them zeros"
            )
        self.remarks = (f"{name}: {missing} have no vector and get zeros",)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors

    def stages(self) -> list[nn.Module]:
        return []


def build_features(row: EncoderRow, context: EncoderContext) -> Encoder:
    """Build the encoder of a file of vectors, or without one, of the data set's own."""
    return Vectors(row, context) if row.checkpoint else StoredVectors(row, context)


def vectors_for_whitening(row: EncoderRow, context: EncoderContext) -> np.ndarray:
    """Return the vectors, [n, width] or [n, K, width], whose statistics whiten an encoder's.

    Raises:
        ValueError: the encoder has no features, or they cannot be read.
    """
    name = context.name
    is_own = is_features(name)
    source = row.features or (row.checkpoint if is_own else "")
    if source:
        may_miss = row.missing == "zeros"
        return vectors_of_items(source, context.items, name.removeprefix(PREFIX), may_miss)
    if is_own:
        return context.known_items().features[name.removeprefix(PREFIX)].read()
    raise ValueError(
        f"item.options.{name}.whiten is {row.whiten}, and item.options.{name}.features is not "
        f"set. Set it to the folder that mlrec extract wrote for {name}"
    )


FEATURE_ENCODERS = {
    ROW_NAME: EncoderRow(
        build=build_features,
        modality=Modality.FEATURES,
        paper="of the encoder that made them; any features/NAME is a row like this one",
        tuning="frozen",
    ),
}
