"""Features that were extracted before: a frozen table of vectors, looked up by item id."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

from mlrec import storage
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow
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
    """Item ids, int64 [n], and their vectors, float32 [n, width].

    Raises:
        ValueError: there are none at `url`, or the two do not fit.
    """
    try:
        if url.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(storage.read_bytes(url)), columns=["item", "vector"])
            items = table["item"].to_numpy()
            vectors = np.stack(table["vector"].to_numpy())
        else:
            items = _read_npy(storage.join(url, ITEMS_FILE))
            vectors = _read_npy(storage.join(url, FEATURES_FILE))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"there are no features at {url} ({error}); give a folder with {FEATURES_FILE} and {ITEMS_FILE}, which {WRITTEN_BY}, "
            "or a Parquet file with the columns item and vector"
        ) from error
    if vectors.ndim != 2 or not len(items) or items.shape != vectors.shape[:1]:
        raise ValueError(
            f"{url} has features of shape {vectors.shape} for items of shape {items.shape}: write [n, width] for [n]"
        )
    return items.astype(np.int64), vectors.astype(np.float32)


def _read_npy(url: str) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(storage.read_bytes(url)), allow_pickle=False))


FEATURE_ENCODERS = {
    "features/vectors": EncoderRow(
        build=Vectors,
        modality=Modality.ID,
        paper="of the encoder that made them",
        tuning="frozen",
    ),
}
