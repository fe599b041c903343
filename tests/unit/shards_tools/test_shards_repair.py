"""repair: every kind of damage is undone, and no other bytes are published."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from packing import tree
from rich.console import Console

from mlrec.data.format import (
    CATALOGUE_FILE,
    DATASET_FILE,
    FAILURES_FILE,
    ORACLE_FILE,
    item_shard,
    sequence_shard,
)
from shards_tools.check.dataset import check
from shards_tools.cli import main
from shards_tools.make import make
from shards_tools.pack.settings import Settings
from shards_tools.push import push
from shards_tools.repair.dataset import repair

QUIET = Console(file=io.StringIO())
UNTOUCHED = 10**18
"""Modification time in nanoseconds of files that a repair did not write."""


@pytest.fixture(scope="module")
def raw(raw_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a raw folder with a broken video and a broken cover, whose failures are recorded."""
    folder = Path(shutil.copytree(raw_dir, tmp_path_factory.mktemp("broken") / "raw"))
    (folder / "videos" / "18.mp4").write_bytes(b"no video")
    (folder / "covers" / "40.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def packed(raw: Path) -> Path:
    """Return the data set of `raw`."""
    out = raw.parent / "data"
    make(raw, str(out), Settings(size=32, items_per_shard=16, users_per_shard=50), 2, None, QUIET)
    return out


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    """Return a copy of a data set to damage."""
    return Path(shutil.copytree(packed, tmp_path / "data"))


def flip(path: Path) -> None:
    """Flip a bit within a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Cut a file to half its length."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGED = {
    "a flipped byte": ([item_shard(1)], flip),
    "a shard cut short": ([item_shard(2)], truncate),
    "a missing shard": ([item_shard(0)], Path.unlink),
    "all item shards": ([item_shard(shard) for shard in range(4)], Path.unlink),
    "sequences": ([sequence_shard(0)], flip),
    "the catalogue": ([CATALOGUE_FILE], truncate),
    "the failures": ([FAILURES_FILE], Path.unlink),
    "what the synthetic folder brings along": ([ORACLE_FILE], flip),
    "catalogue and failures": ([CATALOGUE_FILE, FAILURES_FILE], Path.unlink),
    "some of each": ([item_shard(1), sequence_shard(1), CATALOGUE_FILE, FAILURES_FILE], truncate),
}


@pytest.mark.parametrize(("paths", "damage"), DAMAGED.values(), ids=list(DAMAGED))
def test_repair_replaces_exactly_the_damaged_files(
    raw: Path, packed: Path, copy: Path, paths: list[str], damage: Callable[[Path], object]
) -> None:
    # a written file gets another time
    for path in copy.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(UNTOUCHED, UNTOUCHED))
    for path in paths:
        damage(copy / path)
    # the damage is one that check finds
    assert list(check(str(copy)))
    repaired = repair(raw, str(copy), 2, QUIET)
    assert sorted(repaired) == sorted(paths)
    assert tree(copy) == tree(packed)
    written = []
    for path in tree(copy):
        if (copy / path).stat().st_mtime_ns != UNTOUCHED:
            written.append(path)
    assert sorted(written) == sorted(paths)


def test_repair_command_prints_faults_and_check_agrees(
    raw: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # shutil.copy gives the files new modification times
    elsewhere = shutil.copytree(raw, tmp_path / "moved", copy_function=shutil.copy)
    truncate(copy / item_shard(3))
    assert main(["repair", str(elsewhere), str(copy), "--workers", "2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"repaired {item_shard(3)}: is ")
    assert shown[-1] == f"{copy}: 1 file repaired"
    assert main(["check", str(copy)]) == 0
    assert main(["repair", str(elsewhere), str(copy)]) == 0
    assert f"{copy}: no file is damaged" in capsys.readouterr().out


def test_repair_pushed_copy_is_repaired(raw: Path, packed: Path, tmp_path: Path) -> None:
    pushed = tmp_path / "pushed"
    assert list(push(str(packed), str(pushed)))
    # push copied the settings, without which repair would refuse
    flip(pushed / item_shard(1))
    assert list(repair(raw, str(pushed), 2, QUIET)) == [item_shard(1)]
    assert tree(pushed) == tree(packed)


def refusal(raw: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the sentence with which the command refuses, and check that nothing has changed."""
    before = tree(copy)
    assert main(["repair", str(raw), str(copy), "--workers", "2"]) == 2
    assert tree(copy) == before
    error = capsys.readouterr().err
    # all other lines are progress, which depends on the speed of the machine
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    return line


def test_repair_raw_folder_with_other_items_is_bad_input(
    raw: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(raw, tmp_path / "other"))
    pairs = other / "synthetic_pairs.tsv"
    # the first user watches an item that the data set lacks
    pairs.write_text(pairs.read_text().replace("\t", "\t7000 ", 1))
    flip(copy / item_shard(1))
    assert "is not the raw folder that" in refusal(other, copy, capsys)


def test_repair_raw_folder_with_other_videos_is_bad_input(
    raw: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(raw, tmp_path / "other"))
    # the same items, but item 20 has the video of item 1
    shutil.copy(other / "videos" / "1.mp4", other / "videos" / "20.mp4")
    flip(copy / item_shard(1))
    words = refusal(other, copy, capsys)
    assert f"{item_shard(1)}, packed again, does not have the sha256" in words
    assert "The raw folder, or the version of a decoder, is not the one" in words


def test_repair_raw_folder_that_differs_elsewhere_serves(
    raw: Path, packed: Path, copy: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(raw, tmp_path / "other"))
    # the video of an item in shard 0, and damage in shard 1
    (other / "videos" / "1.mp4").unlink()
    flip(copy / item_shard(1))
    assert list(repair(other, str(copy), 2, QUIET)) == [item_shard(1)]
    assert tree(copy) == tree(packed)


def test_repair_without_settings_says_where_they_are(
    raw: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "_work" / "settings.json").unlink()
    flip(copy / item_shard(1))
    assert "_work/settings.json is missing, which says how the data set was made" in refusal(
        raw, copy, capsys
    )


def edit(copy: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    content = json.loads((copy / DATASET_FILE).read_text())
    change(content)
    (copy / DATASET_FILE).write_text(json.dumps(content))


def other_sha(content: dict) -> None:  # type: ignore[type-arg]
    for file in content["files"]:
        if file["path"] == item_shard(1):
            file["sha256"] = "0" * 64


def other_size(content: dict) -> None:  # type: ignore[type-arg]
    content["media"]["size"] = 64
    other_sha(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda content: content["counts"].update(train=7),
            "dataset.json says 7 training interactions",
        ),
        (other_sha, "dataset.json itself is damaged: items/items-00001.tar is what it should be"),
        (other_size, "dataset.json contradicts _work/settings.json"),
    ],
)
def test_repair_wrong_dataset_json_is_bad_input(
    raw: Path,
    copy: Path,
    change: Callable[[dict], object],  # type: ignore[type-arg]
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(copy, change)
    line = refusal(raw, copy, capsys)
    assert words in line
    assert "remove dataset.json there, and mlrec-shards make packs it again" in line


def test_repair_unreadable_dataset_json_is_bad_input(
    raw: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # without dataset.json there is nothing to compare the files with
    truncate(copy / DATASET_FILE)
    assert "dataset.json is invalid" in refusal(raw, copy, capsys)
    (copy / DATASET_FILE).unlink()
    assert "is not a data set" in refusal(raw, copy, capsys)


def test_repair_missing_raw_folder_is_bad_input(
    raw: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # although no file is damaged
    assert "absent is missing. Name the folder" in refusal(raw / "absent", copy, capsys)
