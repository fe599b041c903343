"""Sequence shards with one fault each: check names it, and opening refuses it in one sentence."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damaged_dataset import refusal, seal

from mlrec.config import DataConfig
from mlrec.data.format import (
    npy_bytes,
    read_npy,
    sequence_shard,
)
from mlrec.data.stream import open_data

Arrays = dict[str, np.ndarray]


@pytest.fixture
def copy(dataset_dir: Path, tmp_path: Path) -> Path:
    """A data set to change."""
    return Path(shutil.copytree(dataset_dir, tmp_path / "data"))


def replaced(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, name: change(arrays[name])}


def value(place: int, number: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a change of one value."""

    def changed(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[place] = number
        return array

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced("items", np.zeros_like), "item number 0"),
        (replaced("items", value(0, -5)), "item number -5"),
        (replaced("items", lambda array: array + np.int32(10**6)), "the catalogue has 1 to"),
        (replaced("items", lambda array: array.astype(np.float64)), "float64, expected int32"),
        (replaced("items", lambda array: array[:, None]), "expected 1 dimension"),
        (replaced("items", lambda array: array[:-1]), "expected 0 to"),
        (replaced("items", lambda array: array.astype(">i4")), "expected int32"),
        (replaced("offsets", value(0, 1)), "goes from 1"),
        (replaced("offsets", value(1, 1 << 40)), "does not ascend"),
        (replaced("offsets", value(1, 1)), "a user has 1 items"),
        (replaced("offsets", lambda array: array[:-1]), "numbers for"),
        (replaced("users", lambda array: np.ones_like(array)), "different ids"),
        (replaced("users", lambda array: array[:-1]), "numbers for"),
        (lambda arrays: {**arrays, "raw_users": np.zeros(3, np.uint8)}, "without the other"),
        (lambda arrays: {**arrays, "evil": arrays["items"]}, "is not a member of a sequence shard"),
        (lambda arrays: {"users": arrays["users"], "items": arrays["items"]}, "has no offsets.npy"),
        (lambda arrays: {**arrays, "times": arrays["offsets"]}, "times for"),
    ],
)
def test_sequence_shard_with_a_wrong_array_is_refused(
    copy: Path, tmp_path: Path, change: Callable[[Arrays], Arrays], words: str
) -> None:
    rewrite(copy / sequence_shard(0), change)
    seal(copy)
    assert words in refusal(copy, tmp_path)


def rewrite(shard: Path, change: Callable[[Arrays], Arrays]) -> None:
    """Change the arrays of each sample of a sequence shard."""
    samples: dict[str, Arrays] = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            key, name, _ = member.name.split(".")
            samples.setdefault(key, {})[name] = read_npy(tar.extractfile(member).read())  # type: ignore[union-attr]
    with tarfile.open(shard, "w") as tar:
        for key, arrays in samples.items():
            for name, array in change(arrays).items():
                info = tarfile.TarInfo(f"{key}.{name}.npy")
                info.size = len(raw := npy_bytes(array))
                tar.addfile(info, io.BytesIO(raw))


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000000,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976, 16), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }",
        b"__import__('os').abort()",
        b"(" * 3000,
    ],
)
def test_read_npy_header_that_lies_is_refused_without_allocating(header: bytes) -> None:
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)
    with pytest.raises(ValueError, match="npy"):
        read_npy(raw)


def test_cached_sequence_table_that_was_damaged_is_made_again(
    dataset_dir: Path, tmp_path: Path
) -> None:
    config = DataConfig(url=str(dataset_dir), cache_dir=str(tmp_path / "cache"))
    healthy = open_data(config).sequences
    expected = {name: np.array(getattr(healthy, name)) for name in ("items", "offsets", "users")}
    (folder,) = (tmp_path / "cache" / "sequences").glob("*[!k]")
    for file in sorted(folder.iterdir()):
        for damage in (
            lambda raw: raw[:-3],
            lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
            lambda raw: b"",
            lambda raw: raw + b"{}",
        ):
            file.write_bytes(damage(file.read_bytes()))
            again = open_data(config).sequences
            assert all(
                np.array_equal(getattr(again, name), array) for name, array in expected.items()
            ), file
