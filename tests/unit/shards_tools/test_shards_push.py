"""push: copies are complete and verified, and a stopped push continues."""

import json
import shutil
from pathlib import Path

import pytest
from packed import pack
from packing import tree

from mlrec.data.format import DATASET_FILE, item_shard, read_dataset_info
from shards_tools.check.dataset import check
from shards_tools.cli import main
from shards_tools.pack.settings import Settings
from shards_tools.push import PUSH_FILE, push
from shards_tools.raw.listing import WORK_FOLDER


def test_push_copy_is_the_same_data_set(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(dataset_dir), str(tmp_path / "copy")]) == 0
    info = read_dataset_info(str(dataset_dir))
    assert read_dataset_info(str(tmp_path / "copy")).fingerprint == info.fingerprint
    assert list(check(str(tmp_path / "copy"))) == []
    assert f"{len(info.files) + 1} files" in capsys.readouterr().out


def test_push_stopped_is_no_data_set_and_continues(dataset_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    stopped = push(str(dataset_dir), str(copy))
    done = next(stopped)
    # as Ctrl-C after the first file
    stopped.close()
    assert not (copy / DATASET_FILE).exists()
    before = (copy / done.path).stat().st_mtime_ns
    files = list(push(str(dataset_dir), str(copy)))
    assert len(files) == len(read_dataset_info(str(dataset_dir)).files)
    assert (copy / done.path).stat().st_mtime_ns == before, "a complete file was copied again"
    assert list(check(str(copy))) == []


def test_push_damaged_source_raises_before_its_file(dataset_dir: Path, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    shutil.copytree(dataset_dir, source)
    # one byte differs, the size does not
    with open(source / item_shard(1), "r+b") as shard:
        shard.seek(2000)
        shard.write(b"x")
    with pytest.raises(RuntimeError, match=r"items-00001\.tar does not have the sha256"):
        list(push(str(source), str(copy)))
    # a file is published only after its sha256 is verified
    assert not (copy / item_shard(1)).exists()
    assert not (copy / DATASET_FILE).exists()


def test_push_onto_another_data_set_raises(dataset_dir: Path, tmp_path: Path) -> None:
    other = json.loads((dataset_dir / DATASET_FILE).read_text()) | {"name": "other"}
    # another name gives another fingerprint
    (tmp_path / DATASET_FILE).write_text(json.dumps(other))
    with pytest.raises(ValueError, match="holds another data set"):
        list(push(str(dataset_dir), str(tmp_path)))


def test_push_onto_files_of_another_program_compares_their_bytes(
    dataset_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    for shard in (0, 1):
        (copy / item_shard(shard)).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(dataset_dir / item_shard(shard), copy / item_shard(shard))
    # of the right size but without its content, as another program's stopped copy may leave it
    (copy / item_shard(1)).write_bytes(bytes((copy / item_shard(1)).stat().st_size))
    before = (copy / item_shard(0)).stat().st_mtime_ns
    assert list(push(str(dataset_dir), str(copy)))
    assert (copy / item_shard(0)).stat().st_mtime_ns == before
    assert tree(copy) == tree(dataset_dir)


def test_push_repeated_replaces_damaged_files(dataset_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert list(push(str(dataset_dir), str(copy)))
    # the size is right: only the bytes tell the damage
    (copy / item_shard(2)).write_bytes(bytes((copy / item_shard(2)).stat().st_size))
    assert list(push(str(dataset_dir), str(copy)))
    assert tree(copy) == tree(dataset_dir)


def test_push_onto_a_stopped_push_of_another_data_set_raises(
    dataset_dir: Path, raw_dir: Path, tmp_path: Path
) -> None:
    other, copy = str(tmp_path / "other"), tmp_path / "copy"
    pack(raw_dir, Path(other), Settings(size=34))
    stopped = push(str(dataset_dir), str(copy))
    next(stopped)
    stopped.close()
    before = tree(copy)
    with pytest.raises(ValueError, match="holds another data set that was begun"):
        list(push(other, str(copy)))
    # the settings of the first data set protect the place too
    (copy / WORK_FOLDER / PUSH_FILE).unlink()
    with pytest.raises(ValueError, match="holds another data set that was begun"):
        list(push(other, str(copy)))
    assert before.items() >= tree(copy).items()


def test_push_copy_has_the_settings(dataset_dir: Path, raw_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert list(push(str(dataset_dir), str(copy)))
    # make takes the copy for its own complete data set
    pack(raw_dir, copy)
    assert tree(copy) == tree(dataset_dir)


def test_push_into_a_folder_with_foreign_files_raises(dataset_dir: Path, tmp_path: Path) -> None:
    foreign_file = tmp_path / item_shard(0)
    foreign_file.parent.mkdir()
    foreign_file.write_text("precious")
    with pytest.raises(
        ValueError,
        match=r"holds 1 file that the copy would replace, such as items/items-00000\.tar",
    ):
        list(push(str(dataset_dir), str(tmp_path)))
    assert foreign_file.read_text() == "precious"
