"""Features that were extracted before: a frozen table of vectors, looked up by item id."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from mlrec import storage
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow
from mlrec.npy import read_npy
from mlrec.schema import InputSpec, Modality

FEATURES_FILE, ITEMS_FILE = "features.npy", "items.npy"
"""In a folder of features: float32 [n, width], and the items that they are of, int64 [n]."""
PARQUET_FILE = "features.parquet"
WRITTEN_BY = "mlrec extract CONFIG PATH writes"


class Vectors(Encoder):
    """The features of a folder (features.npy, items.npy) or of a Parquet file (columns item, vector).

    Zeros for other items; the mean of all where they are whitened, which whitening makes zeros.
    """

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        if not row.checkpoint:
            raise ValueError(
                f"item.options.{context.name}.checkpoint is not set; give the folder that holds {FEATURES_FILE} and "
                f"{ITEMS_FILE}, which {WRITTEN_BY}, or a Parquet file with the columns item and vector"
            )
        self._source = row.checkpoint if context.files is None else kept_features(context.files)
        items, vectors = read_features(self._source)
        if items.min() < 1 or items.max() > context.catalogue_size:
            raise ValueError(
                f"{row.checkpoint} has features of items {items.min()} to {items.max()}, the data set has items 1 to "
                f"{context.catalogue_size}: they are of another data set"
            )
        self.spec = InputSpec(Modality.ID)
        self.width = vectors.shape[1]
        table = torch.zeros(context.catalogue_size + 1, self.width)
        if row.whiten:
            table[:] = torch.from_numpy(vectors).mean(dim=0)
        table[torch.from_numpy(items)] = torch.from_numpy(vectors)
        self.table: torch.Tensor
        self.register_buffer("table", table, persistent=False)  # a copy in each checkpoint would be of no use

    def save_files(self, folder: Path) -> None:
        files = [PARQUET_FILE] if self._source.endswith(".parquet") else [FEATURES_FILE, ITEMS_FILE]
        for name in files:
            url = self._source if name == PARQUET_FILE else storage.join(self._source, name)
            storage.write_bytes(str(folder / name), storage.read_bytes(url))

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        return self.table[items]

    def stages(self) -> list[nn.Module]:
        return []


def kept_features(folder: Path) -> str:
    """Return where the features are that `Vectors.save_files` wrote into `folder`."""
    parquet = folder / PARQUET_FILE
    return str(parquet if parquet.exists() else folder)


def read_features(url: str) -> tuple[np.ndarray, np.ndarray]:
    """Return item ids, int64 [n], and their vectors, float32 [n, width].

    Raises:
        ValueError: there are none at `url`, the two do not fit, an id is no whole number or occurs twice,
            or a vector is not finite.
    """
    try:
        items, vectors = _read_table(url) if url.endswith(".parquet") else _read_arrays(url)
    except (OSError, ValueError, pa.ArrowException, MemoryError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"there are no features at {url} ({reason}); give a folder with {FEATURES_FILE} and {ITEMS_FILE}, "
            f"which {WRITTEN_BY}, "
            "or a Parquet file with the columns item and vector"
        ) from error
    if vectors.ndim != 2 or not vectors.size or items.shape != vectors.shape[:1]:
        raise ValueError(
            f"{url} has features of shape {vectors.shape} for items of shape {items.shape}: write [n, width] for [n]"
        )
    if items.dtype.kind not in "iu" or vectors.dtype.kind != "f":
        raise ValueError(
            f"{url} has items of type {items.dtype} and vectors of type {vectors.dtype}: write whole numbers and floats"
        )
    if (distinct := len(np.unique(items))) != len(items):
        raise ValueError(f"{url} has {len(items)} vectors for {distinct} different items: write one for each")
    if not (finite_n := np.isfinite(vectors).all(axis=1)).all():
        raise ValueError(
            f"{url} has {int((~finite_n).sum())} vectors that are not finite, the first of item {items[~finite_n][0]}"
        )
    return items.astype(np.int64), vectors.astype(np.float32)


def _read_arrays(url: str) -> tuple[np.ndarray, np.ndarray]:
    items, vectors = (read_npy(storage.read_bytes(storage.join(url, name))) for name in (ITEMS_FILE, FEATURES_FILE))
    return items, vectors


def _read_table(url: str) -> tuple[np.ndarray, np.ndarray]:
    file = pq.ParquetFile(io.BytesIO(storage.read_bytes(url)))
    kinds = {field.name: field.type for field in file.schema_arrow}
    if not {"item", "vector"} <= set(kinds):
        raise ValueError(f"it has the columns {', '.join(kinds)[:80]}")
    if not pa.types.is_integer(kinds["item"]) or not _holds_floats(kinds["vector"]):
        raise ValueError(f"item is {kinds['item']} and vector is {kinds['vector']}, expected whole numbers and lists of floats")
    table = file.read(columns=["item", "vector"])
    if table["item"].null_count or table["vector"].null_count:
        raise ValueError("a row has no item or no vector")
    return table["item"].to_numpy(), np.stack(table["vector"].to_numpy())


def _holds_floats(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))


FEATURE_ENCODERS = {
    "features/vectors": EncoderRow(
        build=Vectors,
        modality=Modality.ID,
        paper="of the encoder that made them",
        tuning="frozen",
    ),
}
