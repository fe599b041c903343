"""Features of items on storage: one vector per raw id, so they fit every packing of the same items.

<url>/features.npy       float32 [n, width]
<url>/raw_ids.json       list of n strings: the raw ids of the rows
<url>/features.parquet   both as one table (raw_id, vector), for other programs; exports have none
<url>/features.json      FeaturesInfo, written last: a folder without it is incomplete

A Parquet file with the columns raw_id and vector can be read instead of a folder.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec import storage
from mlrec.data.features.info import (
    INFO_FILE,
    ITEMS_FILE,
    MAX_WIDTH,
    RAW_IDS_FILE,
    REMEDY,
    TABLE_FILE,
    VECTORS_FILE,
    FeaturesInfo,
    Maker,
    read_info,
    write_info,
)
from mlrec.data.features.join import MAX_NAMED_IDS, ItemIds, match_rows, missing_fault
from mlrec.data.features.tables import quoted, read_table, table_bytes
from mlrec.runtime.printable import brief, printable
from mlrec.storage.npy import npy_bytes, read_npy
from mlrec.storage.typed_json import parse_json

_ROUNDING_TOLERANCE = 1e-5
"""Relative difference of fp32 vectors that count as equal; results vary with the batch size."""


@dataclass(frozen=True)
class Features:
    """Vectors of items. Raw ids are unique, and vectors are finite."""

    url: str
    raw_ids_n: pa.Array
    """Raw id of each row, strings."""
    vectors_nX: np.ndarray
    """Vector of each row, float32."""
    info: FeaturesInfo | None
    """Content of features.json; None for a Parquet file without one."""

    @property
    def width(self) -> int:
        """Number of values per vector (X)."""
        return int(self.vectors_nX.shape[1])

    def rows_of(self, items: ItemIds) -> np.ndarray:
        """Return each item's row, int64 [N]; -1 for an item that packing left out.

        Raises:
            ValueError: items of the data set have no vector. It says how many and names the first.
        """
        rows_N, missing = match_rows(self.raw_ids_n, items)
        if missing.num_items:
            made_of = self.info.dataset if self.info else ""
            raise missing_fault(self.url, made_of, self.raw_ids_n, items, missing)
        return rows_N

    def remarks(self, items: ItemIds) -> tuple[str, ...]:
        """Return what users should know about the join, in sentences without a full stop."""
        num_used = int((self.rows_of(items) >= 0).sum())
        num_extra = len(self.raw_ids_n) - num_used
        info = self.info
        remarks = []
        if info and info.fingerprint != items.fingerprint:
            remarks.append(
                f"{self.url} was made of another packing or data set ({printable(info.dataset)}, "
                f"fingerprint {info.fingerprint[:12]}); vectors are joined by raw ids"
            )
        if info and info.checkpoint is None:
            remarks.append(f"{self.url} was made by {printable(info.encoder)} with random weights")
        if num_extra:
            remarks.append(
                f"{num_extra:,} of {len(self.raw_ids_n):,} vectors in {self.url} belong to no item "
                "of the data set"
            )
        return tuple(remarks)


def vectors_of_items(url: str, items: ItemIds | None) -> np.ndarray:
    """Return the vectors, float32 [n, width], of the data set's items in the order of the file.

    Args:
        items: None for all vectors.

    Raises:
        ValueError: as in read_features and Features.rows_of.
    """
    features = read_features(url)
    if items is None:
        return features.vectors_nX
    rows_N = features.rows_of(items)
    # Sorted by row, so that statistics are the same for every packing of the items.
    vectors_nX: np.ndarray = features.vectors_nX[np.sort(rows_N[rows_N >= 0])]
    return vectors_nX


def read_features(url: str) -> Features:
    """Return the features of a folder, or of a Parquet file.

    Raises:
        ValueError: there are none, or they are incomplete, damaged or of an earlier version.
    """
    try:
        if url.endswith(".parquet"):
            return _from_file(url)
        if not storage.exists(storage.join(url, INFO_FILE)):
            raise ValueError(_fault_without_info(url))
        return _from_folder(url, read_info(url))
    except OSError as error:
        raise ValueError(f"there are no features at {url} ({brief(error)}). {REMEDY}.") from error


def verify_features(url: str) -> FeaturesInfo:
    """Read all files of a features folder, including the Parquet table, and return features.json.

    Raises:
        ValueError: as in read_features.
    """
    try:
        info = read_info(url)
        _from_folder(url, info)
        _read_verified(url, TABLE_FILE, info)
    except OSError as error:
        reason = f"{url} lacks a file of its features ({brief(error)})"
        raise ValueError(f"{reason}. {REMEDY}.") from error
    return info


def _fault_without_info(url: str) -> str:
    """Return why a folder without features.json has no features: empty, interrupted, or too old."""
    present = set()
    for name in (VECTORS_FILE, RAW_IDS_FILE, TABLE_FILE, ITEMS_FILE):
        if storage.exists(storage.join(url, name)):
            present.add(name)
    if VECTORS_FILE not in present:
        return f"there are no features at {url}: it has no {INFO_FILE}. {REMEDY}."
    # Only mlrec extract writes raw ids without item numbers, and it ends with features.json.
    if RAW_IDS_FILE in present and ITEMS_FILE not in present:
        return (
            f"{url} has no {INFO_FILE}, so its extraction is incomplete. "
            "Run the same mlrec extract again"
        )
    table_hint = ""
    if TABLE_FILE in present:
        table_hint = f", or give {storage.join(url, TABLE_FILE)}, which has raw ids"
    return (
        f"{url} has features of an earlier version: {ITEMS_FILE} numbers the items of one packing "
        f"and says nothing about others. Extract them again into another folder{table_hint}"
    )


def _from_folder(url: str, info: FeaturesInfo) -> Features:
    """Return the features of a folder, whose files must have the sha256 in `info`."""
    raw_ids_json = _read_verified(url, RAW_IDS_FILE, info)
    raw_ids = parse_json(raw_ids_json, list[str], storage.join(url, RAW_IDS_FILE), REMEDY)
    content = _read_verified(url, VECTORS_FILE, info)
    try:
        vectors_nX = read_npy(content, np.float32, ndim=2)
    except ValueError as error:
        vectors_url = storage.join(url, VECTORS_FILE)
        raise ValueError(f"{vectors_url} cannot be used: {error}. {REMEDY}.") from error
    if (info.count, info.width) != vectors_nX.shape:
        raise ValueError(
            f"{storage.join(url, INFO_FILE)} says {info.count} x {info.width}, "
            f"but {VECTORS_FILE} is {list(vectors_nX.shape)}. {REMEDY}."
        )
    return _checked(Features(url, pa.array(raw_ids, pa.string()), vectors_nX, info))


def _from_file(url: str) -> Features:
    """Return the features of a Parquet file, with the features.json next to it if there is one."""
    folder, _, name = url.rpartition("/")
    info = None
    # Only the table of an extraction has a features.json; other tables may be in any folder.
    if folder and name == TABLE_FILE and storage.exists(storage.join(folder, INFO_FILE)):
        info = read_info(folder)
    # The features.json of an export names no table, so a table next to it has another origin.
    if info is None or name not in info.sha256:
        return _from_table(storage.read_bytes(url), url, None)
    return _from_table(_read_verified(folder, name, info), url, info)


def _read_verified(url: str, name: str, info: FeaturesInfo) -> bytes:
    """Return a file of a folder.

    Raises:
        ValueError: its sha256 is not the one in features.json.
    """
    file_url = storage.join(url, name)
    content = storage.read_bytes(file_url)
    if hashlib.sha256(content).hexdigest() != info.sha256.get(name):
        raise ValueError(
            f"{file_url} does not have the sha256 in {INFO_FILE}: it is damaged or was changed. "
            "Run the same mlrec extract again, and keep your own vectors in another folder."
        )
    return content


def _from_table(raw: bytes, url: str, info: FeaturesInfo | None) -> Features:
    """Return the features of a Parquet table; errors name `url`."""
    try:
        raw_ids, vectors_nX = read_table(raw)
    except ValueError as error:
        raise _unusable(url, brief(error)) from error
    return _checked(Features(url, raw_ids, vectors_nX, info))


def _checked(features: Features) -> Features:
    """Return the features after checking them.

    Raises:
        ValueError: there is no vector, the width or the number of ids is wrong, ids are null or not
            unique, or a vector is not finite.
    """
    fault = _shape_fault(features) or _value_fault(features)
    if fault:
        raise _unusable(features.url, fault)
    return features


def _shape_fault(features: Features) -> str:
    """Return the fault in the numbers of vectors and ids, or ""."""
    vectors = features.vectors_nX
    width = vectors.shape[1]
    if not len(vectors) or not 1 <= width <= MAX_WIDTH:
        return f"{len(vectors)} vectors of width {width}; the width must be 1 to {MAX_WIDTH:,}"
    if len(features.raw_ids_n) != len(vectors):
        return f"{len(vectors):,} vectors for {len(features.raw_ids_n):,} raw ids"
    return ""


def _value_fault(features: Features) -> str:
    """Return the fault in the values of ids and vectors, or ""."""
    raw_ids_n = features.raw_ids_n
    if raw_ids_n.null_count:
        return f"{raw_ids_n.null_count:,} raw ids are null"
    counts = pc.value_counts(raw_ids_n)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        example = quoted(repeated.slice(0, 1).to_pylist())
        return f"{len(repeated):,} raw ids occur more than once, such as {example}"
    is_broken_n = ~np.isfinite(features.vectors_nX).all(axis=1)
    if is_broken_n.any():
        broken_ids = raw_ids_n.filter(pa.array(is_broken_n))
        examples = quoted(broken_ids.slice(0, MAX_NAMED_IDS).to_pylist())
        return f"{is_broken_n.sum():,} vectors are not finite, such as that of {examples}"
    return ""


def _unusable(url: str, reason: str) -> ValueError:
    """Return the error for features that cannot be used."""
    return ValueError(f"{url} cannot be used as features: {reason}. {REMEDY}.")


def write_features(
    url: str, raw_ids: pa.Array, vectors_nX: np.ndarray, made_of: ItemIds, maker: Maker
) -> FeaturesInfo:
    """Write features to a folder, complete or not at all.

    Raises:
        ValueError: they are not valid features.
    """
    # Checked before the first write, so refused vectors leave the features at `url` readable.
    _checked(Features(url, raw_ids, vectors_nX, None))
    # features.json is removed first and written last, so a folder that has it is complete
    storage.remove(storage.join(url, INFO_FILE))
    contents = {
        TABLE_FILE: table_bytes(raw_ids, vectors_nX),
        VECTORS_FILE: npy_bytes(vectors_nX),
        RAW_IDS_FILE: json.dumps(raw_ids.to_pylist()).encode(),
    }
    sha256 = {}
    for name, content in contents.items():
        storage.write_bytes(storage.join(url, name), content)
        sha256[name] = hashlib.sha256(content).hexdigest()
    return write_info(url, vectors_nX.shape, sha256, made_of, maker)


def are_equal(vectors_nX: np.ndarray) -> bool:
    """Tell whether there are several vectors and all are equal except for rounding."""
    # Encoders differ in scale, so the tolerance is relative. `<=` makes all-zero vectors equal.
    largest = max(vectors_nX.max(), -vectors_nX.min())
    spread = (vectors_nX.max(axis=0) - vectors_nX.min(axis=0)).max()
    return len(vectors_nX) > 1 and bool(spread <= _ROUNDING_TOLERANCE * largest)
