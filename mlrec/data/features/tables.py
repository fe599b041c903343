"""Features as one Parquet table (raw_id, vector), which other programs write and read."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlrec.runtime.printable import brief, printable
from mlrec.storage.parquet_text import text_bytes

_MAX_EXPANSION = 100
"""Largest ratio of decoded bytes to the bytes of a Parquet file, beyond _FREE_BYTES."""
_FREE_BYTES = 64 << 20
"""Bytes that any Parquet file may decode to."""


def quoted(raw_ids: list[str]) -> str:
    """Return raw ids as a message shows them."""
    return ", ".join(repr(printable(raw_id, 40)) for raw_id in raw_ids)


def read_table(content: bytes) -> tuple[pa.Array, np.ndarray]:
    """Return the raw ids, strings [n], and the vectors, float32 [n, width], of a Parquet file.

    Raises:
        ValueError: it is not such a table; the message has no full stop.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        names = file.schema_arrow.names
        if names.count("raw_id") != 1 or names.count("vector") != 1:
            raise ValueError(f"its columns are {quoted(names)}, not raw_id and vector")
        _check_expansion(file, len(content))
        # As a dictionary: a long id that occurs in every row takes hardly any bytes in the file.
        file = pq.ParquetFile(io.BytesIO(content), read_dictionary=["raw_id"])
        table = file.read(columns=["raw_id", "vector"])
        _check_text(table["raw_id"], len(content))
        return _raw_ids_of(table["raw_id"].combine_chunks()), _vectors_of(table["vector"])
    except (ValueError, pa.ArrowException, OSError) as error:
        raise ValueError(brief(error)) from error


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


def _raw_ids_of(column: pa.Array) -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
    ):
        raise ValueError(
            f"raw_id is a column of {column.type}; write raw ids as text or whole numbers"
        )
    return column.cast(kind).cast(pa.string())


def _vectors_of(column: pa.ChunkedArray) -> np.ndarray:
    kind = column.type
    is_list = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    if not is_list or not pa.types.is_floating(kind.value_type):
        raise ValueError(f"vector is a column of {kind}; write lists of floating-point numbers")
    if column.null_count:
        raise ValueError(f"{column.null_count:,} vectors are null")
    widths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(widths) > 1:
        raise ValueError(f"vectors have several widths, such as {widths[0]} and {widths[1]}")
    # flatten, not .values: the latter ignores that a chunk may be a slice.
    values = [chunk.flatten() for chunk in column.chunks]
    if nulls := sum(chunk.null_count for chunk in values):
        raise ValueError(f"{nulls:,} numbers of the vectors are null")
    width = widths[0] if widths else 0
    # concatenate needs at least one array, and a table without rows may have no chunk.
    flat = np.concatenate([np.empty(0, np.float32), *(chunk.to_numpy() for chunk in values)])
    # Values beyond float32 become infinite, which a later check reports.
    with np.errstate(over="ignore"):
        return flat.astype(np.float32, copy=False).reshape(len(column), width)


def table_bytes(raw_ids: pa.Array, vectors_nX: np.ndarray) -> bytes:
    """Return features.parquet."""
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors_nX.reshape(-1)), vectors_nX.shape[1]
    )
    sink = io.BytesIO()
    pq.write_table(pa.table({"raw_id": raw_ids, "vector": vectors}), sink, compression="zstd")
    return sink.getvalue()
