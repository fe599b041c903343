"""Features of items on storage: one vector per raw id, so they fit every packing of the same items.

<url>/features.npy       float32 or float16 [n, width]; [n, K, width] for K vectors per item
<url>/raw_ids.json       list of n strings: the raw ids of the rows
<url>/features.parquet   both as one table (raw_id, vector), for other programs; exports have none
<url>/features.json      FeaturesInfo, written last: a folder without it is incomplete

A file of vectors (FORMATS) can be read instead of a folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlrec import storage
from mlrec.data.features.arrays import read_npy_rows, read_torch_rows
from mlrec.data.features.info import (
    INFO_FILE,
    ITEMS_FILE,
    RAW_IDS_FILE,
    REMEDY,
    TABLE_FILE,
    VECTORS_FILE,
    FeaturesInfo,
    Maker,
    read_info,
    write_info,
)
from mlrec.data.features.join import ItemIds
from mlrec.data.features.json_rows import read_json_rows
from mlrec.data.features.row_order import ids_of_rows
from mlrec.data.features.spelling import with_usual_spelling
from mlrec.data.features.tables import read_table, table_bytes
from mlrec.data.features.vectors import Features, Rows, checked, unusable
from mlrec.runtime.printable import brief
from mlrec.storage.npy import npy_bytes, read_npy
from mlrec.storage.typed_json import parse_json

FORMATS: dict[str, Callable[[bytes, str], Rows]] = {
    ".parquet": read_table,
    ".npy": read_npy_rows,
    ".json": read_json_rows,
    ".pt": read_torch_rows,
}
"""Function that reads a file of vectors, by the ending of its name. Its arguments are the content
and the name of the features, which chooses one of several columns."""
DTYPES: dict[str, type[np.generic]] = {"float32": np.float32, "float16": np.float16}
"""Types of the values of a folder's features, by the name in features.json."""
MAX_FILE_BYTES = 64 << 30
"""Largest file of vectors that is read; it is held in memory whole."""


def vectors_of_items(
    url: str, items: ItemIds | None, name: str = "", may_miss: bool = False
) -> np.ndarray:
    """Return the vectors of the data set's items in the order of the file.

    They are float16 or float32, [n, width] or [n, K, width].

    Args:
        items: None for all vectors.
        name: as in read_features.
        may_miss: as in Features.rows_of.

    Raises:
        ValueError: as in read_features and Features.rows_of.
    """
    features = read_features(url, items, name)
    if items is None:
        return features.vectors_nX
    rows_N = features.rows_of(items, may_miss)
    # Sorted by row, so that statistics are the same for every packing of the items.
    vectors_nX: np.ndarray = features.vectors_nX[np.sort(rows_N[rows_N >= 0])]
    return vectors_nX


def read_features(url: str, items: ItemIds | None = None, name: str = "") -> Features:
    """Return the features of a folder, or of a file of vectors.

    Args:
        items: the data set's items, which tell the order of rows without raw ids, and how raw ids
            are spelled.
        name: of the features; the column of a Parquet file that has several.

    Raises:
        ValueError: there are none, or they are incomplete, damaged or of an earlier version, or the
            order of the rows is unknown.
    """
    try:
        features = _read(url, items, name)
    except FileNotFoundError as error:
        raise ValueError(
            f"there are no features at {url}: {error.filename or url} does not exist. {REMEDY}."
        ) from error
    except OSError as error:
        raise ValueError(f"there are no features at {url} ({brief(error)}). {REMEDY}.") from error
    return features if items is None else with_usual_spelling(features, items)


def _read(url: str, items: ItemIds | None, name: str) -> Features:
    if ending_of(url):
        return _from_file(url, items, name)
    if not storage.exists(storage.join(url, INFO_FILE)):
        raise ValueError(_fault_without_info(url))
    return _from_folder(url, read_info(url))


class VectorsShape(NamedTuple):
    """What is known of features without reading their vectors."""

    width: int
    row_names: tuple[str, ...]
    """Names of an item's K vectors; empty for one vector."""
    dtype: np.dtype[Any]


def read_shape(url: str, name: str = "") -> VectorsShape:
    """Return the shape of an item's vectors.

    Raises:
        ValueError: as in read_features, as far as the shape is concerned.
    """
    try:
        if not ending_of(url) and storage.exists(storage.join(url, INFO_FILE)):
            info = read_info(url)
            return VectorsShape(info.width, info.rows, np.dtype(DTYPES[info.dtype]))
        if not ending_of(url):
            raise ValueError(_fault_without_info(url))
        rows = FORMATS[ending_of(url)](_read_bounded(url), name)
    except OSError as error:
        raise ValueError(f"there are no features at {url} ({brief(error)}). {REMEDY}.") from error
    features = Features(url, pa.nulls(0, pa.string()), rows.vectors_nX, None)
    return VectorsShape(rows.vectors_nX.shape[-1], features.row_names, rows.vectors_nX.dtype)


def ending_of(url: str) -> str:
    """Return the ending of a file of vectors; "" for a folder."""
    return next((ending for ending in FORMATS if url.endswith(ending)), "")


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
    if VECTORS_FILE not in present and PurePosixPath(url).suffix:
        return (
            f"there are no features at {url}: it ends in none of {', '.join(FORMATS)}, and is no "
            f"folder with {INFO_FILE}. {REMEDY}."
        )
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
        vectors_nX = read_npy(content, DTYPES[info.dtype], ndim=len(info.shape))
    except ValueError as error:
        vectors_url = storage.join(url, VECTORS_FILE)
        raise ValueError(f"{vectors_url} cannot be used: {error}. {REMEDY}.") from error
    if info.shape != vectors_nX.shape:
        stated = " x ".join(map(str, info.shape))
        raise ValueError(
            f"{storage.join(url, INFO_FILE)} says {stated}, "
            f"but {VECTORS_FILE} is {list(vectors_nX.shape)}. {REMEDY}."
        )
    return checked(Features(url, pa.array(raw_ids, pa.string()), vectors_nX, info))


def _from_file(url: str, items: ItemIds | None, name: str) -> Features:
    """Return the features of a file, with the features.json next to it if there is one."""
    folder, _, file_name = url.rpartition("/")
    info = None
    # Only the table of an extraction has a features.json; other tables may be in any folder.
    if folder and file_name == TABLE_FILE and storage.exists(storage.join(folder, INFO_FILE)):
        info = read_info(folder)
    # The features.json of an export names no table, so a table next to it has another origin.
    if info is not None and file_name in info.sha256:
        content = _read_verified(folder, file_name, info)
    else:
        content = _read_bounded(url)
        info = None
    try:
        rows = FORMATS[ending_of(url)](content, name)
    except ValueError as error:
        raise unusable(url, brief(error)) from error
    if rows.raw_ids_n is not None:
        return checked(Features(url, rows.raw_ids_n, rows.vectors_nX, info))
    row_ids = ids_of_rows(url, len(rows.vectors_nX), items)
    return checked(Features(url, row_ids.raw_ids_n, rows.vectors_nX, info, row_ids.rule))


def _read_bounded(url: str) -> bytes:
    """Return the content of a file of vectors.

    Raises:
        ValueError: it is too large.
    """
    size = storage.size_of(url)
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{url} has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
    return storage.read_bytes(url, size)


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


def write_features(
    url: str, raw_ids: pa.Array, vectors_nX: np.ndarray, made_of: ItemIds, maker: Maker
) -> FeaturesInfo:
    """Write features to a folder, complete or not at all.

    Args:
        vectors_nX: float16 or float32, [n, width], or [n, K, width] for the K rows of `maker`.

    Raises:
        ValueError: they are not valid features.
    """
    # Checked before the first write, so refused vectors leave the features at `url` readable.
    checked(Features(url, raw_ids, vectors_nX, None))
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
    return write_info(url, vectors_nX, sha256, made_of, maker)
