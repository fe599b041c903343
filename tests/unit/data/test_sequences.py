import shutil
from pathlib import Path

import numpy as np
import pytest

from mlrec.data.format import SplitInfo, read_catalogue, read_dataset_info, sequence_shard
from mlrec.data.open_sequences import open_sequences
from mlrec.data.sequences import SequenceTable


@pytest.fixture
def table() -> SequenceTable:
    items = np.array(
        [1, 2, 3, 4, 5, *range(10, 26)], dtype=np.int32
    )  # a user of 5 and one of 16 interactions
    return SequenceTable(items, np.array([0, 5, 21]), np.array([7, 8]), SplitInfo(keep_last=13))


def test_leave_one_out_of_the_last_thirteen(table: SequenceTable) -> None:
    users = np.array([0, 1])
    assert table.train(users).tolist() == [[0] * 8 + [1, 2, 3], list(range(13, 24))]
    assert table.target(users, "validation").tolist() == [4, 24]
    assert table.target(users, "test").tolist() == [5, 25]
    assert table.history(users, "validation").tolist() == [[0] * 7 + [1, 2, 3], list(range(14, 24))]
    assert table.history(users, "test").tolist() == [[0] * 6 + [1, 2, 3, 4], list(range(15, 25))]
    assert table.seen(users, "test").tolist() == [[0] * 8 + [1, 2, 3, 4], list(range(13, 25))]


def test_the_table_is_made_once_and_mapped(dataset_dir: Path, tmp_path: Path) -> None:
    info = read_dataset_info(str(dataset_dir))
    ok_N1 = read_catalogue(str(dataset_dir), info).ok_N1
    first = open_sequences(str(dataset_dir), info, ok_N1, tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.bin")}
    again = open_sequences("/nowhere", info, ok_N1, tmp_path)
    assert isinstance(again.items, np.memmap)
    assert np.array_equal(first.items, again.items)
    assert first.num_users == info.counts["users"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.bin")} == made


def test_a_flipped_byte_is_an_error_and_leaves_no_table(dataset_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    shard = copy / sequence_shard(1)
    raw = bytearray(shard.read_bytes())
    raw[700] ^= 1
    shard.write_bytes(raw)
    info = read_dataset_info(str(copy))
    with pytest.raises(RuntimeError, match=r"sequences-00001\.tar"):
        open_sequences(str(copy), info, read_catalogue(str(copy), info).ok_N1, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "sequences").glob("*[!k]/items.bin")) or list(
        tmp_path.rglob("*.partial")
    )
