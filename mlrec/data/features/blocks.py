"""Blocks of an unfinished extraction, which resumes after the blocks it has written.

A block is a Parquet file (raw_id, vector, reason) that names its extraction. A block that is
damaged or belongs to another extraction is encoded again.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mlrec import storage
from mlrec.runtime.printable import brief

WORK_FOLDER = "_work"
BLOCK_FILES = "block-*.parquet"
_EXTRACTION_KEY = b"mlrec.evaluation.extraction"


@dataclass(frozen=True)
class Block:
    """Vectors of some items, in the order of the catalogue."""

    raw_ids_n: pa.Array
    vectors_nX: np.ndarray
    """float32 or float16 [n, X], all vectors of an item side by side; zeros where it failed."""
    reasons_n: list[str | None]
    """Why an item has no vector; None for an item that has one."""

    @property
    def has_failures(self) -> bool:
        """Whether an item failed."""
        return any(reason is not None for reason in self.reasons_n)


def block_path(out: str, start: int) -> str:
    """Return where the block is whose first item is the `start`-th of the catalogue."""
    return storage.join(out, WORK_FOLDER, f"block-{start:09d}.parquet")


def write_block(out: str, start: int, block: Block, extraction: str) -> None:
    """Write a block of the extraction with this digest."""
    # The digest is in the schema, so one comparison tells a block of other settings apart.
    schema = _schema(block.vectors_nX.shape[1], block.vectors_nX.dtype, extraction)
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(block.vectors_nX.reshape(-1)), type=schema.field("vector").type
    )
    columns = [block.raw_ids_n, vectors, pa.array(block.reasons_n, pa.string())]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="none")
    storage.write_bytes(block_path(out, start), sink.getvalue())


def read_block(
    out: str, start: int, raw_ids_n: pa.Array, width: int, dtype: npt.DTypeLike, extraction: str
) -> Block:
    """Return the block of these items.

    Raises:
        ValueError: it is missing, damaged, or not of this extraction.
    """
    where = block_path(out, start)
    try:
        file = pq.ParquetFile(io.BytesIO(storage.read_bytes(where)))
        if not file.schema_arrow.equals(_schema(width, dtype, extraction), check_metadata=True):
            raise ValueError("it belongs to another extraction")
        # Compared with the footer first, because read() allocates what the footer announces.
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        values = sum(
            group.column(place).num_values for group in groups for place in range(group.num_columns)
        )
        if file.metadata.num_rows != len(raw_ids_n) or values != len(raw_ids_n) * (width + 2):
            raise ValueError("it has another number of items")
        table = file.read().combine_chunks()
        raw_ids, vectors, reasons = (column.chunk(0) for column in table.columns)
        flat = vectors.flatten()
        # flatten drops null lists, so nulls are refused before the reshape to one row per item.
        if not raw_ids.equals(raw_ids_n) or vectors.null_count or flat.null_count:
            raise ValueError("it has other items")
        vectors_nX = flat.to_numpy().reshape(len(raw_ids_n), width)
        if not np.isfinite(vectors_nX).all():
            raise ValueError("it has vectors that are not finite")
        return Block(raw_ids, vectors_nX, reasons.to_pylist())
    except (OSError, ValueError, pa.ArrowException) as error:
        # One type for all faults: whatever is wrong with a block, its items are encoded again.
        raise ValueError(f"{where} cannot be used: {brief(error)}") from error


def _schema(width: int, dtype: npt.DTypeLike, extraction: str) -> pa.Schema:
    value = pa.from_numpy_dtype(dtype)
    vector = pa.list_(pa.field("element", value), width)  # the name that Parquet gives it
    fields = [("raw_id", pa.string()), ("vector", vector), ("reason", pa.string())]
    return pa.schema(fields, metadata={_EXTRACTION_KEY: extraction.encode()})
