"""Check the file of an index byte by byte before faiss reads it.

faiss trusts the sizes, links and offsets in its files. Wrong values make it read outside its arrays
or allocate whatever a file asks for. The layout is that of IndexIDMap2 over IndexHNSWFlat, written
by `faiss.write_index`:

    "IxM2" header, "IHNf" header, HNSW graph, "IxFI" header, vectors, ids

A header is d, ntotal, two constants, is_trained and metric. The graph has one list of links per
item and level. The links of item i at level l are
neighbors[offsets[i] + cumulated[l] : offsets[i] + cumulated[l + 1]], filled up with -1.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

_HEADER = struct.Struct("<iqqq?i")
# faiss still writes two fields of an early layout, always with this value
_CONSTANT = 1 << 20
_INNER_PRODUCT = 0
MAX_LEVELS = 64
MAX_LINKS = 1 << 12
"""Links of an item, summed over its levels."""
MAX_SEARCH_DEPTH = 1 << 16
MAX_ITEM_BYTES = 64 << 10
"""Bytes of an item without its vector: links, level, offset and id."""


def check_index_file(raw: bytes, ids_N: np.ndarray, vectors_NX: np.ndarray) -> None:
    """Check that faiss can safely read `raw`, and that it indexes exactly these items.

    Args:
        ids_N: int64, ids of the items.
        vectors_NX: float32, what states are scored with.

    Raises:
        ValueError: the file differs from that; the message says where.
    """
    reader = _Reader(raw)
    count, width = vectors_NX.shape
    reader.header(b"IxM2", width, count)
    reader.header(b"IHNf", width, count)
    _check_graph(reader, count)
    reader.header(b"IxFI", width, count)
    stored_NX = reader.vector(np.dtype("<f4"), count * width, "vectors").reshape(count, width)
    # this refuses NaN too, because NaN is not close to anything
    if not np.allclose(stored_NX, vectors_NX, rtol=1e-4, atol=1e-5):
        raise ValueError("its vectors are not those of the items")
    if not np.array_equal(reader.vector(np.dtype("<i8"), count, "ids"), ids_N):
        raise ValueError("its ids are not those of the items")
    if reader.position != len(raw):
        raise ValueError(f"{len(raw) - reader.position} bytes follow its end")


def _check_graph(reader: _Reader, count: int) -> None:
    """Check that a search which follows the links stays inside the arrays and the levels.

    Raises:
        ValueError: it would not.
    """
    probabilities = reader.vector(np.dtype("<f8"), None, "level probabilities", MAX_LEVELS)
    cumulated = reader.vector(np.dtype("<i4"), len(probabilities) + 1, "links per level")
    # as int64, because differences and sums of hostile int32 values could overflow
    cumulated = cumulated.astype(np.int64)
    if cumulated[0] != 0 or (np.diff(cumulated) < 0).any() or cumulated[-1] > MAX_LINKS:
        raise ValueError(f"its numbers of links per level are {cumulated.tolist()}")
    levels_N = reader.vector(np.dtype("<i4"), count, "levels")
    if levels_N.min() < 1 or levels_N.max() > len(probabilities):
        raise ValueError(f"its levels are from {levels_N.min()} to {levels_N.max()}")
    offsets = reader.vector(np.dtype("<u8"), count + 1, "offsets")
    # recomputed, because only these offsets keep the lists of links from overlapping
    expected = np.concatenate([[0], np.cumsum(cumulated[levels_N])]).astype(np.uint64)
    if not np.array_equal(offsets, expected):
        raise ValueError("its offsets do not follow from its levels")
    neighbors = reader.vector(np.dtype("<i4"), int(offsets[-1]), "links")
    if neighbors.min(initial=-1) < -1 or neighbors.max(initial=-1) >= count:
        raise ValueError(
            f"its links are from {neighbors.min()} to {neighbors.max()}, with {count} items"
        )
    settings = reader.unpack(struct.Struct("<iiiii"), "search settings")
    entry, highest, build_depth, search_depth, beam = settings
    if not 0 <= entry < count or highest != levels_N.max() - 1 or levels_N[entry] != highest + 1:
        raise ValueError(f"its entry point is item {entry} at level {highest}")
    deepest = max(build_depth, search_depth)
    if min(build_depth, search_depth) < 1 or deepest > MAX_SEARCH_DEPTH or beam != 1:
        raise ValueError(f"its depths are {build_depth} and {search_depth}, its beam is {beam}")
    starts_N = offsets[:-1].astype(np.int64)
    for level in range(1, highest + 1):
        # a search reads the links of the linked item at the same level, so they must exist
        starts = starts_N[levels_N > level]
        places = starts[:, None] + np.arange(cumulated[level], cumulated[level + 1])
        linked = neighbors[places]
        if (levels_N[linked[linked >= 0]] <= level).any():
            raise ValueError(f"it links to an item at level {level} that does not reach it")


class _Reader:
    """Reads the file from its start, and never beyond its end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.position = 0

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        """Return the next values of a fixed layout."""
        self._check_left(layout.size, what)
        values = layout.unpack_from(self._raw, self.position)
        self.position += layout.size
        return values

    def _check_left(self, size: int, what: str) -> None:
        if size > len(self._raw) - self.position:
            raise ValueError(f"it ends before its {what}")

    def header(self, name: bytes, width: int, count: int) -> None:
        """Check the next header."""
        (stored_name,) = self.unpack(struct.Struct("<4s"), "header")
        header = (stored_name, *self.unpack(_HEADER, "header"))
        expected = (name, width, count, _CONSTANT, _CONSTANT, True, _INNER_PRODUCT)
        if header != expected:
            raise ValueError(f"its header is {header}, expected {expected}")

    def vector(
        self, dtype: np.dtype[Any], length: int | None, what: str, most: int = 0
    ) -> np.ndarray:
        """Return the next array of `length` values, or of 1 to `most` values if that is None."""
        (count,) = self.unpack(struct.Struct("<Q"), what)
        if length is None and not 1 <= count <= most:
            raise ValueError(f"it has {count} {what}, expected at most {most}")
        if length is not None and count != length:
            raise ValueError(f"it has {count} {what}, expected {length}")
        self._check_left(count * dtype.itemsize, what)
        array = np.frombuffer(self._raw, dtype, count, self.position)
        self.position += count * dtype.itemsize
        return array
