"""Vectors as .npy and as .pt files, as researchers publish them. No pickled code is executed."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mlrec.data.features.join import quoted
from mlrec.data.features.vectors import Rows
from mlrec.runtime.printable import brief
from mlrec.storage.npy import read_npy

FEATURES_KEY = "features"
"""Key of the tensor in a .pt file that holds a dictionary of one tensor."""


def read_npy_rows(content: bytes, name: str) -> Rows:
    """Return the rows of an .npy file without ids.

    It holds float16, float32 or float64 [n, width], or [n, K, width] for K vectors per item.

    Raises:
        ValueError: it is no such file; the message has no full stop.
    """
    del name  # the file has one array
    array = read_npy(content)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"an .npy file of shape {list(array.shape)}, expected 2 dimensions, or 3 for several "
            "vectors per item"
        )
    # long doubles differ between machines
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ValueError(f"an .npy file of {array.dtype}, expected float16, float32 or float64")
    return Rows(None, _as_float32(array))


def read_torch_rows(content: bytes, name: str) -> Rows:
    """Return the rows of a file of torch.save.

    It holds a tensor [n, width], the same under the key "features", or a vector per raw id.

    Raises:
        ValueError: it is no such file; the message has no full stop.
    """
    del name  # the file has one tensor per raw id, or one in all
    saved = _load_torch(content)
    if isinstance(saved, Mapping) and set(saved) == {FEATURES_KEY}:
        saved = saved[FEATURES_KEY]
    if not isinstance(saved, Mapping):
        return Rows(None, _array_of(saved, 2, len(content)))
    raw_ids = []
    vectors = []
    # All vectors together may claim no more values than the file has bytes.
    remaining = len(content)
    for raw_id, tensor in saved.items():
        # bool is a kind of int
        if not isinstance(raw_id, str | int) or isinstance(raw_id, bool):
            raise ValueError(f"its key {str(raw_id)[:40]!r} is neither text nor a whole number")
        vector = _array_of(tensor, 1, remaining)
        remaining -= vector.size
        raw_ids.append(str(raw_id))
        vectors.append(vector)
    return Rows(pa.array(raw_ids, pa.string()), stacked(raw_ids, vectors))


def stacked(raw_ids: list[str], vectors: list[np.ndarray]) -> np.ndarray:
    """Return the vectors of raw ids, which have one width, as float32 [n, width].

    Raises:
        ValueError: their widths differ.
    """
    for raw_id, vector in zip(raw_ids, vectors, strict=True):
        if len(vector) != len(vectors[0]):
            raise ValueError(
                f"vectors have several widths, such as {len(vectors[0])} for {quoted(raw_ids[:1])} "
                f"and {len(vector)} for {quoted([raw_id])}"
            )
    return np.stack(vectors) if vectors else np.empty((0, 0), np.float32)


def _load_torch(content: bytes) -> Any:
    """Return what torch.save wrote to a file.

    Raises:
        ValueError: it is damaged, in the format before torch 1.6, or holds other Python objects
            than tensors and plain values.
    """
    # imported here: the packer reads features too, and seldom such a file
    import torch

    _check_not_compressed(content)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises weights_only=False, which would run the file's code
        raise ValueError(
            "it holds Python objects, which are not read; save a tensor or a dictionary of "
            "tensors, and numpy arrays as .npy"
        ) from error
    except Exception as error:
        # torch raises errors of many types for damaged files
        raise ValueError(f"torch.load cannot read it: {brief(error)}") from error


def _check_not_compressed(content: bytes) -> None:
    """Check that a file is of torch.save, and does not unpack to more bytes than it has.

    Raises:
        ValueError: it is not, or does.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError("not a file of torch.save, version 1.6 or later") from error
    # torch.save stores tensors as they are
    if unpacked > len(content):
        raise ValueError(f"it unpacks to {unpacked:,} bytes, but has {len(content):,}")


def _array_of(tensor: Any, ndim: int, max_values: int) -> np.ndarray:
    """Return a tensor as a float32 array.

    Raises:
        ValueError: it is no plain tensor of floating-point numbers with `ndim` dimensions, or
            claims more values than the file can hold.
    """
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"it holds a {type(tensor).__name__} where a tensor is expected")
    if tensor.layout is not torch.strided:
        raise ValueError("sparse tensors are not read; call .to_dense() before torch.save")
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if tensor.dtype not in floats:
        raise ValueError(f"a tensor of {tensor.dtype}, expected floating-point numbers")
    if tensor.ndim != ndim:
        raise ValueError(f"a tensor of shape {list(tensor.shape)}, expected {ndim} dimension(s)")
    # A stride of 0 repeats a value without storing it, and a meta tensor stores none.
    if tensor.numel() > max_values or tensor.device.type != "cpu":
        raise ValueError(f"a tensor of shape {list(tensor.shape)} is more than the file holds")
    return _as_float32(tensor.detach().to(torch.float32).numpy())


def _as_float32(array: np.ndarray) -> np.ndarray:
    # Values beyond float32 become infinite, which a later check reports.
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)
