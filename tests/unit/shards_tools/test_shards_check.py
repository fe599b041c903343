"""check and show: every kind of damage is one line that names the file."""

import hashlib
import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlrec.data.format import (
    CATALOGUE_FILE,
    DATASET_FILE,
    FAILURES_FILE,
    item_shard,
    read_catalogue,
    read_dataset_info,
    sequence_shard,
)
from shards_tools.check.dataset import check
from shards_tools.cli import main


@pytest.fixture
def copy(dataset_dir: Path, tmp_path: Path) -> Path:
    """Return a copy of a data set to damage."""
    return Path(shutil.copytree(dataset_dir, tmp_path / "data"))


def flip(path: Path, offset: int) -> None:
    """Flip a bit of the byte at `offset`."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_check_intact_data_set_has_no_fault(
    dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(dataset_dir)]) == 0
    # as many as make and show tell
    num_files = read_dataset_info(str(dataset_dir)).num_files
    assert re.search(rf": {num_files} files, .* no fault", capsys.readouterr().out)


def test_check_flipped_byte_of_a_member_is_named(copy: Path) -> None:
    catalogue = read_catalogue(str(copy), read_dataset_info(str(copy)))
    # item 20 is in shard 1, and member 2 is a frame
    member = catalogue.members(20)[2]
    # in the middle of the content
    flip(copy / item_shard(1), member.offset + member.size // 2)
    assert list(check(str(copy))) == [
        "items/items-00001.tar: 000000020.2.jpg does not have the crc32 that the catalogue names"
    ]


def test_check_flipped_byte_of_a_header_is_named(copy: Path) -> None:
    member = read_catalogue(str(copy), read_dataset_info(str(copy))).members(20)[2]
    # the header is the block before the content
    flip(copy / item_shard(1), member.offset - 512)
    assert list(check(str(copy))) == [
        "items/items-00001.tar: 000000020.2.jpg is not at the offset that the catalogue names"
    ]


def test_check_undecodable_items_are_named(copy: Path) -> None:
    content = json.loads((copy / DATASET_FILE).read_text())
    catalogue = read_catalogue(str(copy), read_dataset_info(str(copy)))
    stored = pq.read_table(copy / CATALOGUE_FILE)
    table = stored.to_pydict()
    shard = bytearray((copy / item_shard(1)).read_bytes())
    for item in (18, 19, 31):
        member = catalogue.members(item)[2]
        shard[member.offset : member.offset + member.size] = bytes(member.size)
        table["members"][item - 1][2]["crc32"] = zlib.crc32(bytes(member.size))
    (copy / item_shard(1)).write_bytes(shard)
    pq.write_table(pa.table(table, schema=stored.schema), copy / CATALOGUE_FILE)
    # All checksums are right: nothing but decoding can tell the damage.
    for file in content["files"]:
        raw = (copy / file["path"]).read_bytes()
        file |= {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (copy / DATASET_FILE).write_text(json.dumps(content))
    faults = list(check(str(copy)))
    assert len(faults) == 3
    for item, fault in zip((18, 19, 31), faults, strict=True):
        assert fault.startswith(
            f"items/items-00001.tar: the video of item {item} cannot be decoded"
        )


def truncate(path: Path) -> None:
    """Cut a file to half its length."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("path", "damage", "words"),
    [
        (item_shard(2), truncate, "members are lost"),
        (item_shard(2), Path.unlink, "missing"),
        (item_shard(2), lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes long"),
        (
            item_shard(2),
            lambda path: flip(path, path.stat().st_size - 1),
            "does not have the sha256",
        ),
        (sequence_shard(1), truncate, "bytes long"),
        (sequence_shard(1), Path.unlink, "missing"),
        (sequence_shard(1), lambda path: flip(path, 2000), "does not have the sha256"),
        (CATALOGUE_FILE, lambda path: flip(path, 100), "does not have the sha256"),
        (CATALOGUE_FILE, Path.unlink, "missing"),
        ("failures.jsonl", Path.unlink, "missing"),
    ],
)
def test_check_damaged_file_is_one_line_with_its_name(
    copy: Path,
    path: str,
    damage: Callable[[Path], object],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # one kind of damage must not show as several faults
    damage(copy / path)
    assert main(["check", str(copy)]) == 1
    printed = capsys.readouterr()
    assert f"1 fault. mlrec-shards repair RAW {copy} packs files again" in printed.err
    (line,) = printed.out.splitlines()
    assert line.startswith(f"{path}: ")
    assert words in line


def test_check_wrong_counts_are_named(copy: Path) -> None:
    content = json.loads((copy / DATASET_FILE).read_text())
    # lost_users is about the raw folder: no file of the data set can contradict it
    content["counts"] |= {"interactions": content["counts"]["interactions"] + 1, "lost_users": 8}
    (copy / DATASET_FILE).write_text(json.dumps(content))
    faults = list(check(str(copy)))
    wrong = content["counts"]["interactions"]
    assert faults == [f"dataset.json: says {wrong} interactions, the files hold {wrong - 1}"]


def test_check_shard_missing_from_dataset_json_is_named(copy: Path) -> None:
    content = json.loads((copy / DATASET_FILE).read_text())
    content["files"] = [file for file in content["files"] if file["path"] != item_shard(3)]
    (copy / DATASET_FILE).write_text(json.dumps(content))
    (fault,) = check(str(copy))
    assert "12 items, the first 49, are in item shard 3, dataset.json has 3 item shards" in fault


def test_check_and_show_no_data_set_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path)]) == 2
    assert main(["show", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("is not a data set") == 2


def test_show_prints_a_table_or_json(dataset_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(dataset_dir)]) == 0
    assert "5 JPEG frames of 32 x 32" in capsys.readouterr().out
    # standard output has nothing but the document
    assert main(["show", str(dataset_dir), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    info = read_dataset_info(str(dataset_dir))
    assert (shown["name"], shown["counts"]) == (info.name, info.counts)
    assert shown["files"]["items"]["shards"] == len(info.shards("items"))
    assert shown["popularity"]["cold_items"] > 0


def replace_failures(copy: Path, failures: bytes) -> None:
    """Replace failures.jsonl, with its right checksum in dataset.json."""
    content = json.loads((copy / DATASET_FILE).read_text())
    (copy / FAILURES_FILE).write_bytes(failures)
    for file in content["files"]:
        if file["path"] == FAILURES_FILE:
            file |= {"size": len(failures), "sha256": hashlib.sha256(failures).hexdigest()}
    (copy / DATASET_FILE).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        (b"not json\n", "failures.jsonl, line 1, is invalid"),
        (
            b'{"item": 3, "raw_id": "3", "kind": "video", "reason": "no frames"}\n',
            "says that the video of item 3 failed, which catalogue.parquet contradicts",
        ),
        (
            b'{"item": 61, "raw_id": "61", "kind": "cover", "reason": "no image"}\n',
            "says that the cover of item 61 failed, which catalogue.parquet contradicts",
        ),
        (
            b'{"item": 3, "raw_id": "3", "kind": "cover", "reason": "no image"}\n',
            "dataset.json: says 0 failed_covers, failures.jsonl has 1",
        ),
    ],
)
def test_check_failures_malformed_or_contradictory_are_named(
    copy: Path, failures: bytes, words: str
) -> None:
    replace_failures(copy, failures)
    (fault,) = check(str(copy))
    assert words in fault


def test_check_wrong_counts_of_items_without_a_part_are_named(copy: Path) -> None:
    content = json.loads((copy / DATASET_FILE).read_text())
    content["counts"] |= {"items_without_title": 5, "items_without_cover": 7}
    (copy / DATASET_FILE).write_text(json.dumps(content))
    assert list(check(str(copy))) == [
        "dataset.json: says 5 items_without_title, the catalogue has 0",
        "dataset.json: says 7 items_without_cover and failed_covers, the catalogue has 0",
    ]
    # version 1 did not count them
    for key in ("items_without_title", "items_without_cover"):
        del content["counts"][key]
    (copy / DATASET_FILE).write_text(json.dumps(content))
    assert not list(check(str(copy)))
