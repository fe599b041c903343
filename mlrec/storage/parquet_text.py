"""Texts of Parquet columns that are read as dictionaries."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def text_bytes(column: pa.ChunkedArray) -> int:
    """Return the bytes that a dictionary column of texts takes once it is decoded.

    A long text that occurs in every row takes the file next to nothing, and decoding would repeat it.
    """
    lengths = (
        pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.iterchunks()
    )
    return sum(int(pc.sum(chunk).as_py() or 0) for chunk in lengths)
