"""Names of feature files, and features.json: what made the vectors, and the sha256 of each file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mlrec import storage
from mlrec.data.features.join import ItemIds
from mlrec.storage.typed_json import STRICT, parse_json

VECTORS_FILE = "features.npy"
RAW_IDS_FILE = "raw_ids.json"
TABLE_FILE = "features.parquet"
INFO_FILE = "features.json"
ITEMS_FILE = "items.npy"
"""Item numbers of one packing. Exports have it; features of earlier versions had no raw ids."""

REMEDY = (
    "Write features with mlrec extract CONFIG PATH, or give a .npy, .json or .pt file of vectors, "
    "or a .parquet file with the columns raw_id and vector"
)

MAX_WIDTH = 1 << 16
"""Largest number of values of a vector."""
MAX_ROWS = 1 << 12
"""Largest number of vectors per item."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""Names of features, such as `text`. They are part of encoders' and of members' names."""
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_RowNames = Annotated[tuple[str, ...], Field(max_length=MAX_ROWS)]


@dataclass(frozen=True)
class Reduction:
    """Principal components that replace several vectors per item."""

    __pydantic_config__ = STRICT

    rows: _RowNames
    """Names of the vectors before the reduction, such as stages."""
    explained_variance: Annotated[float, Field(ge=0, le=1.001)]
    """Share of the variance that the components hold, over items with training interactions."""


@dataclass(frozen=True)
class Maker:
    """The encoder that made vectors."""

    encoder: str
    """Its name, for people."""
    checkpoint: str | None
    """Source of its weights; None for random weights."""
    rows: tuple[str, ...] = ()
    """Names of an item's vectors, such as stages; empty for one vector per item."""
    pca: Reduction | None = None
    """Principal components that the vectors are; None for the encoder's own vectors."""


@dataclass(frozen=True)
class FeaturesInfo:
    """The content of features.json."""

    __pydantic_config__ = STRICT

    dataset: str
    """Name of the data set that the items were read from."""
    fingerprint: _Sha256
    """SHA-256 of its dataset.json."""
    encoder: str
    """Name of the encoder that made the vectors, for people."""
    checkpoint: str | None
    """Source of the encoder's weights; null for random weights."""
    count: Annotated[int, Field(ge=1)]
    """Number of items."""
    width: Annotated[int, Field(ge=1, le=MAX_WIDTH)]
    """Number of values of a vector."""
    sha256: dict[str, _Sha256]
    """SHA-256 of features.npy, raw_ids.json and, if it exists, features.parquet."""
    rows: _RowNames = ()
    """Names of an item's vectors, such as stages; empty for one vector per item."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type of the values."""
    pca: Reduction | None = None
    """Principal components that the vectors are; null for the encoder's own vectors."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of features.npy: [n, width], or [n, K, width] for K vectors per item."""
        if self.rows:
            return (self.count, len(self.rows), self.width)
        return (self.count, self.width)

    def to_bytes(self) -> bytes:
        """Return features.json. Earlier versions can read it unless it needs a later key."""
        tree = asdict(self)
        for key in ("rows", "dtype", "pca"):
            if getattr(self, key) == getattr(FeaturesInfo, key):
                del tree[key]
        return (json.dumps(tree, indent=1) + "\n").encode()


def read_info(url: str) -> FeaturesInfo:
    """Return features.json.

    Raises:
        ValueError: it is damaged.
    """
    where = storage.join(url, INFO_FILE)
    return parse_json(storage.read_bytes(where), FeaturesInfo, where, REMEDY)


def write_info(
    url: str, vectors: np.ndarray, sha256: Mapping[str, str], made_of: ItemIds, maker: Maker
) -> FeaturesInfo:
    """Write features.json for vectors that are at `url` already."""
    # Exports pass checksums of other files too; features.json names only those of features.
    feature_sha256 = {}
    for name in (VECTORS_FILE, RAW_IDS_FILE, TABLE_FILE):
        if name in sha256:
            feature_sha256[name] = sha256[name]
    info = FeaturesInfo(
        dataset=made_of.dataset,
        fingerprint=made_of.fingerprint,
        encoder=maker.encoder,
        checkpoint=maker.checkpoint,
        count=len(vectors),
        width=vectors.shape[-1],
        sha256=feature_sha256,
        rows=maker.rows,
        dtype="float16" if vectors.dtype == np.float16 else "float32",
        pca=maker.pca,
    )
    # Written after the other files, so that after a crash read_features refuses the folder.
    storage.write_bytes(storage.join(url, INFO_FILE), info.to_bytes())
    return info
