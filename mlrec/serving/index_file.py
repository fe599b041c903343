"""The index of items as faiss stores it, checked byte by byte before faiss reads it.

faiss takes sizes, links and offsets of its files as they are. With wrong values it reads outside its arrays or allocates
whatever a file asks for. The layout is that of IndexIDMap2 over IndexHNSWFlat, written by `faiss.write_index`:

    "IxM2" header, "IHNf" header, HNSW graph, "IxFI" header, vectors, ids

A header is d, ntotal, two constants, is_trained and metric. The graph has one list of links per item and level.
Those of item i at level l are neighbors[offsets[i] + cumulated[l] : offsets[i] + cumulated[l + 1]], -1 where there are fewer.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

_HEADER = struct.Struct("<iqqq?i")
_CONSTANT = 1 << 20
_INNER_PRODUCT = 0
MAX_LEVELS = 64
MAX_LINKS = 1 << 12
"""Of an item over all levels."""
MAX_SEARCH_DEPTH = 1 << 16
MAX_ITEM_BYTES = 64 << 10
"""Of an item beside its vector: links, level, offset and id."""


def check_index_file(raw: bytes, ids_N: np.ndarray, vectors_NX: np.ndarray) -> None:
    """Check that `raw` is an index of exactly these items, which faiss can read and search safely.

    Args:
        ids_N: int64, ids of the items.
        vectors_NX: float32, what they are scored with.

    Raises:
        ValueError: it is not; the message says where it differs.
    """
    reader, (count, width) = _Reader(raw), vectors_NX.shape
    reader.header(b"IxM2", width, count)
    reader.header(b"IHNf", width, count)
    _check_graph(reader, count)
    reader.header(b"IxFI", width, count)
    stored_NX = reader.vector(np.dtype("<f4"), count * width, "vectors").reshape(count, width)
    if not np.allclose(stored_NX, vectors_NX, rtol=1e-4, atol=1e-5):  # NaN is close to nothing
        raise ValueError("its vectors are not those of the items")
    if not np.array_equal(reader.vector(np.dtype("<i8"), count, "ids"), ids_N):
        raise ValueError("its ids are not those of the items")
    if reader.position != len(raw):
        raise ValueError(f"{len(raw) - reader.position} bytes follow its end")


def _check_graph(reader: _Reader, count: int) -> None:
    probabilities = reader.vector(np.dtype("<f8"), None, "level probabilities", MAX_LEVELS)
    cumulated = reader.vector(np.dtype("<i4"), len(probabilities) + 1, "links per level").astype(
        np.int64
    )
    if cumulated[0] != 0 or (np.diff(cumulated) < 0).any() or cumulated[-1] > MAX_LINKS:
        raise ValueError(f"its numbers of links per level are {cumulated.tolist()}")
    levels_N = reader.vector(np.dtype("<i4"), count, "levels")
    if levels_N.min() < 1 or levels_N.max() > len(probabilities):
        raise ValueError(f"its levels are from {levels_N.min()} to {levels_N.max()}")
    offsets = reader.vector(np.dtype("<u8"), count + 1, "offsets")
    if not np.array_equal(
        offsets, np.concatenate([[0], np.cumsum(cumulated[levels_N])]).astype(np.uint64)
    ):
        raise ValueError("its offsets do not follow from its levels")
    neighbors = reader.vector(np.dtype("<i4"), int(offsets[-1]), "links")
    if neighbors.min(initial=-1) < -1 or neighbors.max(initial=-1) >= count:
        raise ValueError(
            f"its links are from {neighbors.min()} to {neighbors.max()}, with {count} items"
        )
    entry, highest, build_depth, search_depth, beam = reader.unpack(
        struct.Struct("<iiiii"), "search settings"
    )
    if not 0 <= entry < count or highest != levels_N.max() - 1 or levels_N[entry] != highest + 1:
        raise ValueError(f"its entry point is item {entry} at level {highest}")
    if not (
        1 <= search_depth <= MAX_SEARCH_DEPTH and 1 <= build_depth <= MAX_SEARCH_DEPTH and beam == 1
    ):
        raise ValueError(f"its depths are {build_depth} and {search_depth}, its beam is {beam}")
    starts_N = offsets[:-1].astype(np.int64)
    for level in range(1, highest + 1):
        # an item at a level may link only to items that are there too: their links of this level are read next
        starts = starts_N[levels_N > level]
        places = starts[:, None] + np.arange(cumulated[level], cumulated[level + 1])
        linked = neighbors[places]
        if (levels_N[linked[linked >= 0]] <= level).any():
            raise ValueError(f"it links at level {level} to an item that is not there")


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw, self.position = raw, 0

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        self._need(layout.size, what)
        found = layout.unpack_from(self._raw, self.position)
        self.position += layout.size
        return found

    def _need(self, size: int, what: str) -> None:
        if size > len(self._raw) - self.position:
            raise ValueError(f"it ends before its {what}")

    def header(self, name: bytes, width: int, count: int) -> None:
        found = self.unpack(struct.Struct("<4s"), "header")[0], *self.unpack(_HEADER, "header")
        expected = name, width, count, _CONSTANT, _CONSTANT, True, _INNER_PRODUCT
        if found != expected:
            raise ValueError(f"its header is {found}, expected {expected}")

    def vector(
        self, dtype: np.dtype[Any], length: int | None, what: str, most: int = 0
    ) -> np.ndarray:
        """Return the next array of known length, or of up to `most` values."""
        (found,) = self.unpack(struct.Struct("<Q"), what)
        if found != length and not (length is None and 1 <= found <= most):
            raise ValueError(
                f"it has {found} {what}, expected {f'at most {most}' if length is None else length}"
            )
        self._need(found * dtype.itemsize, what)
        array = np.frombuffer(self._raw, dtype, found, self.position)
        self.position += found * dtype.itemsize
        return array
