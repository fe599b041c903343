"""Features of items on storage: one vector per raw id, so they fit every packing of the same items.

<url>/features.npy       float32 [n, width]
<url>/raw_ids.json       list of n strings: the raw ids of the rows
<url>/features.parquet   both as one table (raw_id, vector), for other programs; exports have none
<url>/features.json      FeaturesInfo, written last: a folder without it is incomplete

In place of a folder, a Parquet file with the columns raw_id and vector can be read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from mlrec import storage
from mlrec.data.features.tables import quoted, read_table, table_bytes
from mlrec.runtime.printable import brief, printable
from mlrec.storage.npy import npy_bytes, read_npy
from mlrec.storage.typed_json import STRICT, parse_json

VECTORS_FILE, RAW_IDS_FILE, TABLE_FILE = "features.npy", "raw_ids.json", "features.parquet"
INFO_FILE = "features.json"
REMEDY = "Write features with mlrec extract CONFIG PATH, or give a Parquet file with the columns raw_id and vector"

MAX_WIDTH = 1 << 16
_OLD_ITEMS_FILE = "items.npy"
"""Numbers of one packing, which earlier versions wrote in place of raw ids; exports still have it."""
_ROUNDING = 1e-5
"""Relative error of fp32 in batches of different sizes."""
_MAX_NAMED = 3
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Maker:
    """What made vectors."""

    encoder: str
    """Its name, for people."""
    checkpoint: str | None
    """What its weights were read from; None for random weights."""


@dataclass(frozen=True)
class FeaturesInfo:
    """The content of features.json."""

    __pydantic_config__ = STRICT

    dataset: str
    """Name of the data set that the items were read from."""
    fingerprint: _Sha256
    """SHA-256 of its dataset.json."""
    encoder: str
    """What made the vectors, for people."""
    checkpoint: str | None
    """What the encoder's weights were read from; null for random weights."""
    count: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1, le=MAX_WIDTH)]
    sha256: dict[str, _Sha256]
    """Of features.npy, raw_ids.json and, where it is there, features.parquet."""


@dataclass(frozen=True)
class ItemIds:
    """The items of an opened data set as features know them."""

    raw_ids_N: pa.Array
    """Strings, in the order of the items 1 ... N; null for an item that packing left out."""
    dataset: str
    fingerprint: str


@dataclass(frozen=True)
class Features:
    """Vectors of items; raw ids are unique, vectors finite."""

    url: str
    raw_ids_n: pa.Array
    vectors_nX: np.ndarray
    """float32."""
    info: FeaturesInfo | None
    """None where only a Parquet file was given."""

    @property
    def width(self) -> int:
        """X: numbers of a vector."""
        return int(self.vectors_nX.shape[1])

    def rows_of(self, items: ItemIds) -> np.ndarray:
        """Return each item's row, int64 [N]; -1 for an item that packing left out.

        Raises:
            ValueError: items of the data set have no vector; names how many, and the first of them.
        """
        found_N = pc.index_in(items.raw_ids_N, value_set=self.raw_ids_n, skip_nulls=True)
        missing_N = pc.and_(pc.is_null(found_N), pc.is_valid(items.raw_ids_N))
        count = pc.sum(missing_N).as_py() or 0
        if count:
            names = quoted(items.raw_ids_N.filter(missing_N).slice(0, _MAX_NAMED).to_pylist())
            wanted = len(items.raw_ids_N) - items.raw_ids_N.null_count
            spelling = quoted(self.raw_ids_n.slice(0, 1).to_pylist())
            made_of = f", made of {printable(self.info.dataset)}," if self.info else ""
            raise ValueError(
                f"{self.url}{made_of} has no vector for {count:,} of {wanted:,} items of {printable(items.dataset)} "
                f"(raw ids {names}{', ...' if count > _MAX_NAMED else ''}); its own raw ids look like {spelling}. "
                "Extract features of this data set; items that could not be read are in the extraction's failures.jsonl, "
                "repair those in the data set first"
            )
        rows_N: np.ndarray = found_N.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return rows_N

    def remarks(self, items: ItemIds) -> tuple[str, ...]:
        """Return what users should know of the join with these items, in sentences without a full stop."""
        extra = len(self.raw_ids_n) - int((self.rows_of(items) >= 0).sum())
        lines = []
        if self.info and self.info.fingerprint != items.fingerprint:
            lines.append(
                f"{self.url} was made of another packing or data set ({printable(self.info.dataset)}, fingerprint "
                f"{self.info.fingerprint[:12]}); vectors are joined by raw ids"
            )
        if self.info and self.info.checkpoint is None:
            lines.append(
                f"{self.url} was made by {printable(self.info.encoder)} with random weights"
            )
        if extra:
            lines.append(
                f"{extra:,} of {len(self.raw_ids_n):,} vectors in {self.url} belong to no item of the data set"
            )
        return tuple(lines)


def vectors_of_items(url: str, items: ItemIds | None) -> np.ndarray:
    """Return the vectors, float32 [n, width], of the data set's items in the order of the file.

    So statistics over them are the same for every packing of the items.

    Args:
        items: None for all vectors.

    Raises:
        ValueError: as in read_features and Features.rows_of.
    """
    features = read_features(url)
    if items is None:
        return features.vectors_nX
    rows_N = features.rows_of(items)
    vectors_nX: np.ndarray = features.vectors_nX[np.sort(rows_N[rows_N >= 0])]
    return vectors_nX


def read_features(url: str) -> Features:
    """Return the features of a folder, or of a Parquet file.

    Raises:
        ValueError: there are none, they are incomplete, damaged, or of an earlier version.
    """
    try:
        if url.endswith(".parquet"):
            return _from_file(url)
        if not storage.exists(storage.join(url, INFO_FILE)):
            raise ValueError(_without_info(url))
        return _from_folder(url)
    except OSError as error:
        raise ValueError(f"there are no features at {url} ({brief(error)}). {REMEDY}.") from error


def verify_features(url: str) -> FeaturesInfo:
    """Read the features of a folder, the table for other programs included, and return their features.json.

    Raises:
        ValueError: as in read_features.
    """
    try:
        info = _from_folder(url).info
        assert info is not None
        _read_named(url, TABLE_FILE, info)
        return info
    except OSError as error:
        raise ValueError(
            f"{url} lacks a file of its features ({brief(error)}). {REMEDY}."
        ) from error


def _without_info(url: str) -> str:
    files = (VECTORS_FILE, RAW_IDS_FILE, TABLE_FILE, _OLD_ITEMS_FILE)
    names = {name for name in files if storage.exists(storage.join(url, name))}
    if VECTORS_FILE not in names:
        return f"there are no features at {url}: it has no {INFO_FILE}. {REMEDY}."
    if RAW_IDS_FILE in names and _OLD_ITEMS_FILE not in names:
        return f"{url} has no {INFO_FILE}, so its extraction is incomplete. Run the same mlrec extract again"
    table = (
        f", or give {storage.join(url, TABLE_FILE)}, which has raw ids"
        if TABLE_FILE in names
        else ""
    )
    return (
        f"{url} has features of an earlier version: {_OLD_ITEMS_FILE} numbers the items of one packing and says nothing about "
        f"others. Extract them again into another folder{table}"
    )


def _from_folder(url: str) -> Features:
    where, info = storage.join(url, INFO_FILE), read_info(url)
    raw_ids = parse_json(
        _read_named(url, RAW_IDS_FILE, info), list[str], storage.join(url, RAW_IDS_FILE), REMEDY
    )
    content = _read_named(url, VECTORS_FILE, info)
    try:
        vectors_nX = read_npy(content, np.float32, ndim=2)
    except ValueError as error:
        raise ValueError(
            f"{storage.join(url, VECTORS_FILE)} cannot be used: {error}. {REMEDY}."
        ) from error
    if (info.count, info.width) != vectors_nX.shape:
        raise ValueError(
            f"{where} says {info.count} x {info.width}, {VECTORS_FILE} is {list(vectors_nX.shape)}. {REMEDY}."
        )
    return _checked(Features(url, pa.array(raw_ids, pa.string()), vectors_nX, info))


def _from_file(url: str) -> Features:
    """Return the features of a Parquet file; that of an extraction has a features.json beside it."""
    folder, _, name = url.rpartition("/")
    is_extracted = (
        bool(folder) and name == TABLE_FILE and storage.exists(storage.join(folder, INFO_FILE))
    )
    info = read_info(folder) if is_extracted else None
    if info is None or name not in info.sha256:
        return _from_table(storage.read_bytes(url), url, None)
    return _from_table(_read_named(folder, name, info), url, info)


def _read_named(url: str, name: str, info: FeaturesInfo) -> bytes:
    """Return a file of a folder.

    Raises:
        ValueError: it is not the one that features.json names.
    """
    content = storage.read_bytes(storage.join(url, name))
    if hashlib.sha256(content).hexdigest() != info.sha256.get(name):
        raise ValueError(
            f"{storage.join(url, name)} does not have the sha256 that {INFO_FILE} beside it names: it is damaged or was "
            "changed. Run the same mlrec extract again; keep vectors of your own in another folder."
        )
    return content


def _from_table(raw: bytes, where: str, info: FeaturesInfo | None) -> Features:
    try:
        raw_ids, vectors_nX = read_table(raw)
    except ValueError as error:
        raise ValueError(
            f"{where} cannot be used as features: {brief(error)}. {REMEDY}."
        ) from error
    return _checked(Features(where, raw_ids, vectors_nX, info))


def _checked(features: Features) -> Features:
    """
    Raises:
        ValueError: there is no vector, ids are null or not unique, or a vector is not finite.
    """
    raw_ids, vectors = features.raw_ids_n, features.vectors_nX
    if not len(vectors) or not 1 <= vectors.shape[1] <= MAX_WIDTH:
        raise _fault(
            features,
            f"{len(vectors)} vectors of width {vectors.shape[1]}; the width is 1 to {MAX_WIDTH:,}",
        )
    if len(raw_ids) != len(vectors):
        raise _fault(features, f"{len(vectors):,} vectors for {len(raw_ids):,} raw ids")
    if raw_ids.null_count:
        raise _fault(features, f"{raw_ids.null_count:,} raw ids are null")
    counts = pc.value_counts(raw_ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise _fault(
            features,
            f"{len(twice):,} raw ids occur more than once, such as {quoted(twice.slice(0, 1).to_pylist())}",
        )
    broken_n = ~np.isfinite(vectors).all(axis=1)
    if broken_n.any():
        first = quoted(raw_ids.filter(pa.array(broken_n)).slice(0, _MAX_NAMED).to_pylist())
        raise _fault(
            features, f"{broken_n.sum():,} vectors are not finite, such as that of {first}"
        )
    return features


def _fault(features: Features, reason: str) -> ValueError:
    return ValueError(f"{features.url} cannot be used as features: {reason}. {REMEDY}.")


def write_features(
    url: str, raw_ids: pa.Array, vectors_nX: np.ndarray, made_of: ItemIds, maker: Maker
) -> FeaturesInfo:
    """Write features to `url`, features.json last."""
    _checked(Features(url, raw_ids, vectors_nX, None))
    storage.remove(storage.join(url, INFO_FILE))
    contents = {
        TABLE_FILE: table_bytes(raw_ids, vectors_nX),
        VECTORS_FILE: npy_bytes(vectors_nX),
        RAW_IDS_FILE: json.dumps(raw_ids.to_pylist()).encode(),
    }
    for name, content in contents.items():
        storage.write_bytes(storage.join(url, name), content)
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return write_info(url, vectors_nX.shape, sha256, made_of, maker)


def write_info(
    url: str, shape: tuple[int, ...], sha256: Mapping[str, str], made_of: ItemIds, maker: Maker
) -> FeaturesInfo:
    """Write features.json of vectors of this shape [n, width] that are at `url` already."""
    count, width = shape
    named = {
        name: sha256[name] for name in (VECTORS_FILE, RAW_IDS_FILE, TABLE_FILE) if name in sha256
    }
    info = FeaturesInfo(
        made_of.dataset, made_of.fingerprint, maker.encoder, maker.checkpoint, count, width, named
    )
    storage.write_bytes(
        storage.join(url, INFO_FILE), (json.dumps(asdict(info), indent=1) + "\n").encode()
    )
    return info


def are_equal(vectors_nX: np.ndarray) -> bool:
    """Tell whether several vectors are equal but for rounding."""
    largest = max(vectors_nX.max(), -vectors_nX.min())
    spread = (vectors_nX.max(axis=0) - vectors_nX.min(axis=0)).max()
    return len(vectors_nX) > 1 and bool(spread <= _ROUNDING * largest)


def read_info(url: str) -> FeaturesInfo:
    """Return features.json.

    Raises:
        ValueError: it is damaged.
    """
    where = storage.join(url, INFO_FILE)
    return parse_json(storage.read_bytes(where), FeaturesInfo, where, REMEDY)
