"""Arrays as .npy files: headers are checked against the file before anything is allocated."""

from __future__ import annotations

import io

import numpy as np
from numpy.lib import format as npy_format

MAX_HEADER_BYTES = 4096
"""A header of a plain one- or two-dimensional array takes 128."""


def npy_bytes(array: np.ndarray) -> bytes:
    """Return `array` as an .npy file."""
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def read_npy(
    raw: bytes, dtype: type[np.generic] | None = None, ndim: int | None = None
) -> np.ndarray:
    """Return the read-only array of an .npy file without copying it.

    Args:
        dtype: the only type of values that is accepted, None for any plain number.
        ndim: the only number of dimensions that is accepted, None for any.

    Raises:
        ValueError: the bytes are no .npy file, of another type or rank, or the header's shape does not
            match the number of bytes after it; pickled objects are refused.
    """
    stream = io.BytesIO(raw)
    try:
        shape, fortran_order, found = _read_header(stream)
    except Exception as error:  # numpy reads the header as Python source, with every error of that
        raise ValueError("not an .npy file: its header cannot be read") from error
    if found.hasobject or found.kind not in "biufc":
        raise ValueError(f"an .npy file of {found}, expected plain numbers")
    if dtype is not None and found != np.dtype(dtype):
        raise ValueError(f"an .npy file of {found}, expected {np.dtype(dtype)}")
    if ndim is not None and len(shape) != ndim:
        raise ValueError(f"an .npy file of shape {list(shape)}, expected {ndim} dimension(s)")
    values = 1
    for length in shape:
        values *= length  # Python's integers do not overflow
    if min(shape, default=0) < 0 or values * found.itemsize != len(raw) - stream.tell():
        raise ValueError(
            f"an .npy file of shape {list(shape)} and {len(raw) - stream.tell():,} bytes"
        )
    array = np.frombuffer(raw, dtype=found, offset=stream.tell()) if values else np.empty(0, found)
    return array.reshape(shape, order="F" if fortran_order else "C")


def _read_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(stream, max_header_size=MAX_HEADER_BYTES)
    if version == (2, 0):
        return npy_format.read_array_header_2_0(stream, max_header_size=MAX_HEADER_BYTES)
    raise ValueError(f"version {version}")
