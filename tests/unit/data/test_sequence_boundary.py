"""Sequence shards with one fault each: check names it, and opening refuses it in one sentence."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damaged_dataset import refusal, seal
from timed import Log, pack_log

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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced("times", lambda array: -array), "times.npy does not ascend within each user"),
        (
            lambda arrays: {name: array for name, array in arrays.items() if name != "times"},
            "it has no times.npy, by which the data set is split",
        ),
        (replaced("times", lambda array: array + 20), "no user has two training interactions"),
        (replaced("times", lambda array: array - 15), "targets, dataset.json says"),
    ],
)
def test_sequence_shard_of_a_split_by_time_with_wrong_times_is_refused(
    tmp_path: Path, change: Callable[[Arrays], Arrays], words: str
) -> None:
    log: Log = {str(user): [(time, user + time) for time in range(8)] for user in range(1, 4)}
    shifted = {user: [(time + 10, item) for time, item in run] for user, run in log.items()}
    data_set = pack_log(tmp_path / "log", shifted, "15", "17", 13)
    rewrite(data_set / sequence_shard(0), change)
    seal(data_set)
    assert words in refusal(data_set, tmp_path)


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


def test_cached_sequence_table_of_a_split_by_time_is_made_once_and_again_if_damaged(
    tmp_path: Path,
) -> None:
    log: Log = {str(user): [(time, user + time) for time in range(8)] for user in range(1, 4)}
    data_set = pack_log(tmp_path / "log", log, "5", "7", 13)
    config = DataConfig(url=str(data_set), cache_dir=str(tmp_path / "cache"))
    users = np.arange(3)
    expected = open_data(config).sequences.target(users, "validation").tolist()
    (folder,) = (tmp_path / "cache" / "sequences").glob("*[!k]")
    made = (folder / "table.json").stat().st_mtime_ns
    assert open_data(config).sequences.target(users, "validation").tolist() == expected
    assert (folder / "table.json").stat().st_mtime_ns == made
    content = json.loads((folder / "table.json").read_text())
    del content["test_lengths"]
    (folder / "table.json").write_text(json.dumps(content))
    assert open_data(config).sequences.target(users, "validation").tolist() == expected
    assert (folder / "table.json").stat().st_mtime_ns != made


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
