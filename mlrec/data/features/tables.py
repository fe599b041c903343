"""Features as one Parquet table, which other programs write and read.

Its columns are raw_id or item_id, and vector. Published tables have other names for vectors, and
several of them: MicroLens-1M's item_feature.parquet has txt_emb_BERT and img_emb_CLIPRN50.
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlrec.data.features.join import quoted
from mlrec.data.features.vectors import Rows
from mlrec.runtime.printable import are, brief, counted
from mlrec.storage.parquet_text import text_bytes

ID_COLUMNS = ("raw_id", "item_id")
"""Columns of raw ids, the first that a table has. A column `item` is none: earlier versions wrote
the item numbers of one packing there."""
_MAX_EXPANSION = 100
"""Largest ratio of decoded bytes to the bytes of a Parquet file, beyond _FREE_BYTES."""
_FREE_BYTES = 64 << 20
"""Bytes that any Parquet file may decode to."""


def read_table(content: bytes, name: str = "") -> Rows:
    """Return the rows of a Parquet file.

    Args:
        name: column of the vectors where the table has several; otherwise it does not matter.

    Raises:
        ValueError: it is not such a table; the message has no full stop.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        id_columns, vector_column = _columns_of(file.schema_arrow, name)
        _check_expansion(file, len(content))
        # As a dictionary: a long id that occurs in every row takes hardly any bytes in the file.
        file = pq.ParquetFile(io.BytesIO(content), read_dictionary=id_columns)
        table = file.read(columns=[*id_columns, vector_column])
        raw_ids_n = _raw_ids_of(table, id_columns, len(content))
        return Rows(raw_ids_n, _vectors_of(table[vector_column], vector_column))
    except (ValueError, pa.ArrowException, OSError) as error:
        raise ValueError(brief(error)) from error


def _columns_of(schema: pa.Schema, name: str) -> tuple[list[str], str]:
    """Return the names of the columns with raw ids, and of the one with vectors.

    Raises:
        ValueError: one is missing or occurs twice, or several columns hold vectors.
    """
    names = schema.names
    id_columns = [column for column in ID_COLUMNS if column in names]
    # Named columns come first, so that a column of another type is reported by its own name.
    vector_columns = [column for column in (name, "vector") if column in names]
    if not vector_columns:
        vector_columns = [field.name for field in schema if _is_vectors(field.type)]
    if not vector_columns:
        # a later check reports what they hold instead
        vector_columns = [field.name for field in schema if _is_whole_numbers(field.type)]
    if not id_columns or not vector_columns:
        raise ValueError(f"its columns are {quoted(names)}, not raw_id and vector")
    if any(names.count(column) > 1 for column in [*id_columns, vector_columns[0]]):
        raise ValueError(f"its columns are {quoted(names)}, of which one occurs twice")
    if len(vector_columns) > 1 and vector_columns[0] != name:
        raise ValueError(
            f"its columns {quoted(vector_columns)} are all vectors. Name the features after one, "
            f"such as features/{vector_columns[0]}"
        )
    return id_columns, vector_columns[0]


def _is_vectors(kind: pa.DataType) -> bool:
    # lists of lists: several vectors per item
    inner = kind.value_type if _is_list(kind) and _is_list(kind.value_type) else kind
    return _is_list(inner) and bool(pa.types.is_floating(inner.value_type))


def _is_whole_numbers(kind: pa.DataType) -> bool:
    return _is_list(kind) and bool(pa.types.is_integer(kind.value_type))


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _check_expansion(file: pq.ParquetFile, size: int) -> None:
    """Check that a file of `size` bytes does not announce far more values than it can hold.

    Raises:
        ValueError: it does.
    """
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    values = sum(
        group.column(place).num_values for group in groups for place in range(group.num_columns)
    )
    if values * 4 > size * _MAX_EXPANSION + _FREE_BYTES:
        raise ValueError(f"it claims {values:,} values in {size:,} bytes")


def _check_text(column: pa.ChunkedArray, size: int) -> None:
    """Check that ids read as a dictionary are not far longer than the file of `size` bytes.

    Raises:
        ValueError: they are.
    """
    # The arrow schema in a file can make a dictionary of integers, which have no text length.
    if pa.types.is_dictionary(column.type) and not pa.types.is_integer(column.type.value_type):
        num_bytes = text_bytes(column)
        if num_bytes > size * _MAX_EXPANSION + _FREE_BYTES:
            raise ValueError(f"its raw ids take {num_bytes:,} bytes in {size:,} bytes")


def _raw_ids_of(table: pa.Table, columns: list[str], size: int) -> pa.Array:
    """Return the raw ids of a table, strings.

    Raises:
        ValueError: a column has another type or far more text than the file of `size` bytes, or
            the columns differ.
    """
    raw_ids = []
    for column in columns:
        _check_text(table[column], size)
        raw_ids.append(_as_text(table[column].combine_chunks(), column))
    for place, other in enumerate(raw_ids[1:], start=1):
        is_other = pc.fill_null(pc.not_equal(raw_ids[0], other), True)
        row = pc.index(is_other, True).as_py()
        if row >= 0:
            pair = quoted([str(raw_ids[0][row]), str(other[row])])
            raise ValueError(
                f"its columns {columns[0]} and {columns[place]} differ, such as {pair}; keep the "
                "one with the raw ids of the data set"
            )
    return raw_ids[0]


def _as_text(column: pa.Array, name: str) -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
    ):
        raise ValueError(f"{name} is a column of {kind}; write raw ids as text or whole numbers")
    return column.cast(kind).cast(pa.string())


def _vectors_of(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return the vectors of a column, float16 or float32, [n, width] or [n, K, width].

    Raises:
        ValueError: the column holds anything else.
    """
    kind = column.type
    if _is_whole_numbers(kind):
        raise ValueError(
            f"the vector column {name} holds whole numbers; floating-point numbers are needed"
        )
    if not _is_vectors(kind):
        raise ValueError(f"{name} is a column of {kind}; write lists of floating-point numbers")
    shape = [len(column)]
    values = column
    while _is_list(values.type):
        if values.null_count:
            nulls = values.null_count
            raise ValueError(f"{counted(nulls, 'vector')} {are(nulls)} null")
        shape.append(_common_length(values))
        # flatten, not .values: the latter ignores that a chunk may be a slice.
        inner = [chunk.flatten() for chunk in values.chunks]
        values = pa.chunked_array(inner, values.type.value_type)
    if values.null_count:
        raise ValueError(f"{values.null_count:,} numbers of the vectors are null")
    dtype = np.float16 if pa.types.is_float16(values.type) else np.float32
    # concatenate needs at least one array, and a table without rows may have no chunk.
    flat = np.concatenate([np.empty(0, dtype), *(chunk.to_numpy() for chunk in values.chunks)])
    # Values beyond float32 become infinite, which a later check reports.
    with np.errstate(over="ignore"):
        return flat.astype(dtype, copy=False).reshape(shape)


def _common_length(lists: pa.ChunkedArray) -> int:
    """Return the length that all lists have; 0 for no list.

    Raises:
        ValueError: their lengths differ.
    """
    lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
    if len(lengths) > 1:
        raise ValueError(f"vectors have several widths, such as {lengths[0]} and {lengths[1]}")
    return int(lengths[0]) if lengths else 0


def table_bytes(raw_ids: pa.Array, vectors_nX: np.ndarray) -> bytes:
    """Return features.parquet; several vectors per item become lists of lists."""
    vectors = pa.array(vectors_nX.reshape(-1))
    # the innermost lists first
    for length in reversed(vectors_nX.shape[1:]):
        vectors = pa.FixedSizeListArray.from_arrays(vectors, length)
    sink = io.BytesIO()
    pq.write_table(pa.table({"raw_id": raw_ids, "vector": vectors}), sink, compression="zstd")
    return sink.getvalue()
