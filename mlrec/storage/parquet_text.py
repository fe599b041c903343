"""Text columns of Parquet files that are read as dictionaries."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def text_bytes(column: pa.ChunkedArray) -> int:
    """Return the bytes that a dictionary column of texts takes once it is decoded.

    The file stores a text once. Decoding would repeat it in every row where it occurs.
    """
    total = 0
    for chunk in column.iterchunks():
        # Lengths are taken per distinct text, and then per row.
        lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
        total += int(pc.sum(lengths).as_py() or 0)  # the sum of no rows is null
    return total
