"""Arrays as .npy files, whose headers are checked before anything is allocated."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy_format

MAX_HEADER_BYTES = 4096
"""Longer headers are refused; that of a plain array of one or two dimensions takes 128 bytes."""


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
        dtype: expected type of the values; None accepts any plain number.
        ndim: expected number of dimensions; None accepts any.

    Raises:
        ValueError: the bytes are not an .npy file, hold pickled objects or another type or number
            of dimensions, or do not match the shape of the header.
    """
    # np.load would allocate what the header claims before it reads the values.
    stream = io.BytesIO(raw)
    try:
        header = _read_header(stream)
    except Exception as error:
        # numpy parses the header as Python source and raises whatever its parser raises.
        raise ValueError("not an .npy file: its header cannot be read") from error
    shape = header.shape
    if header.dtype.hasobject or header.dtype.kind not in "biufc":
        raise ValueError(f"an .npy file of {header.dtype}, expected plain numbers")
    if dtype is not None and header.dtype != np.dtype(dtype):
        raise ValueError(f"an .npy file of {header.dtype}, expected {np.dtype(dtype)}")
    if ndim is not None and len(shape) != ndim:
        raise ValueError(f"an .npy file of shape {list(shape)}, expected {ndim} dimension(s)")
    num_values = math.prod(shape)  # Python's integers do not overflow
    num_bytes = len(raw) - stream.tell()
    if min(shape, default=0) < 0 or num_values * header.dtype.itemsize != num_bytes:
        raise ValueError(f"an .npy file of shape {list(shape)} and {num_bytes:,} bytes")
    if num_values:
        array = np.frombuffer(raw, dtype=header.dtype, offset=stream.tell())
    else:  # np.frombuffer refuses an empty buffer
        array = np.empty(0, header.dtype)
    return array.reshape(shape, order="F" if header.is_fortran_order else "C")


class _Header(NamedTuple):
    shape: tuple[int, ...]
    is_fortran_order: bool
    dtype: np.dtype


def _read_header(stream: io.BytesIO) -> _Header:
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        header = npy_format.read_array_header_1_0(stream, max_header_size=MAX_HEADER_BYTES)
    elif version == (2, 0):
        header = npy_format.read_array_header_2_0(stream, max_header_size=MAX_HEADER_BYTES)
    else:
        raise ValueError(f"version {version}")
    return _Header(*header)
