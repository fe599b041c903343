"""Names of feature files, and features.json: what made the vectors, and the sha256 of each file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

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
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""Names of features, such as `text`. They are part of encoders' and of members' names."""
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Maker:
    """The encoder that made vectors."""

    encoder: str
    """Its name, for people."""
    checkpoint: str | None
    """Source of its weights; None for random weights."""


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
    """Number of vectors."""
    width: Annotated[int, Field(ge=1, le=MAX_WIDTH)]
    """Number of values of a vector."""
    sha256: dict[str, _Sha256]
    """SHA-256 of features.npy, raw_ids.json and, if it exists, features.parquet."""


def read_info(url: str) -> FeaturesInfo:
    """Return features.json.

    Raises:
        ValueError: it is damaged.
    """
    where = storage.join(url, INFO_FILE)
    return parse_json(storage.read_bytes(where), FeaturesInfo, where, REMEDY)


def write_info(
    url: str, shape: tuple[int, ...], sha256: Mapping[str, str], made_of: ItemIds, maker: Maker
) -> FeaturesInfo:
    """Write features.json for vectors of this shape [n, width] that are at `url` already."""
    count, width = shape
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
        count=count,
        width=width,
        sha256=feature_sha256,
    )
    content = json.dumps(asdict(info), indent=1) + "\n"
    # Written after the other files, so that after a crash read_features refuses the folder.
    storage.write_bytes(storage.join(url, INFO_FILE), content.encode())
    return info
