"""Records in the work folder and failures of a data set, when they come back damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mlrec.data.format import FileInfo, Member
from shards_tools.pack.items import _check_sizes
from shards_tools.pack.output import SETTINGS_FILE, open_output
from shards_tools.pack.raw_files import MediaError
from shards_tools.pack.records import Failure, ShardRecord, read_failures
from shards_tools.raw.listing import WORK_FOLDER
from shards_tools.repair.dataset import recorded_settings

WHERE = f"out/{WORK_FOLDER}/items-00000.json"
RECORD = ShardRecord(
    FileInfo("items/items-00000.tar", 4096, "0" * 64),
    {1: [Member("txt", 512, 3, 7)]},
    [Failure(2, "b", "video", "no frames")],
    "1" * 64,
)
DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a member beyond its shard": (
        lambda record: record["members"]["1"][0].update(offset=4095),
        "lies outside the 4096 bytes",
    ),
    "a crc32 of 33 bits": (
        lambda record: record["members"]["1"][0].update(crc32=1 << 32),
        "crc32 is 4294967296",
    ),
    "a member without size": (lambda record: record["members"]["1"][0].pop("size"), "size: "),
    "members in a list": (lambda record: record.update(members=[]), r"members is \[\]"),
    "an unknown kind of failure": (
        lambda record: record["failures"][0].update(kind="smell"),
        "kind is 'smell'",
    ),
    "another shard's": (
        lambda record: record["file"].update(path="items/items-00001.tar"),
        "record of another shard",
    ),
    "a path outside": (lambda record: record["file"].update(path="../victim"), "items-00000.json"),
}


def test_shard_record_written_is_read_back() -> None:
    assert ShardRecord.parse(RECORD.to_bytes(), WHERE) == RECORD


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=list(DAMAGED))
def test_shard_record_damaged_says_where_and_what_to_remove(
    damage: Callable[[dict[str, Any]], object], words: str
) -> None:
    content = json.loads(RECORD.to_bytes())
    damage(content)
    with pytest.raises(ValueError, match=words) as error:
        ShardRecord.parse(json.dumps(content).encode(), WHERE)
    message = str(error.value)
    assert WHERE in message
    assert "Remove this file" in message
    assert "\n" not in message


# the third is nested deeper than a parser's stack
@pytest.mark.parametrize("raw", [b"", b"null", b"[" * 100_000, b"\xff"])
def test_shard_record_not_json_is_a_sentence(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"items-00000\.json is invalid"):
        ShardRecord.parse(raw, WHERE)


def test_read_failures_damaged_line_is_named() -> None:
    line = json.dumps(asdict(RECORD.failures[0])).encode()
    assert list(read_failures(line + b"\n" + line, "out/failures.jsonl")) == RECORD.failures * 2
    with pytest.raises(ValueError, match=r"failures\.jsonl, line 2, is invalid"):
        list(read_failures(line + b'\n{"item": 1}', "out/failures.jsonl"))


@pytest.mark.parametrize(
    "content", ["null", "[]", '{"size": "32"}', '{"flavour": 1}', '{"policy": "none"}']
)
def test_recorded_settings_damaged_names_the_file(content: str, tmp_path: Path) -> None:
    (tmp_path / WORK_FOLDER).mkdir()
    (tmp_path / WORK_FOLDER / SETTINGS_FILE).write_text(content)
    with (
        open_output(str(tmp_path)) as output,
        pytest.raises(ValueError, match=f"{SETTINGS_FILE} is invalid"),
    ):
        recorded_settings(output)


def test_is_complete_damaged_settings_raise(tmp_path: Path) -> None:
    (tmp_path / WORK_FOLDER).mkdir()
    (tmp_path / WORK_FOLDER / SETTINGS_FILE).write_text('{"size": [32]}')
    with (
        open_output(str(tmp_path)) as output,
        pytest.raises(ValueError, match=f"{SETTINGS_FILE} is invalid.* to pack it again"),
    ):
        output.is_complete({"size": 32})


def test_is_complete_settings_of_another_run_are_quoted_briefly(tmp_path: Path) -> None:
    (tmp_path / WORK_FOLDER).mkdir()
    (tmp_path / WORK_FOLDER / SETTINGS_FILE).write_text(
        json.dumps({"x" * 5000: "y" * 5000, "size": 64})
    )
    with (
        open_output(str(tmp_path)) as output,
        pytest.raises(ValueError, match=r"size 64 \(now 32\), xxx") as error,
    ):
        output.is_complete({"size": 32})
    # neither a long key nor a long value is quoted whole
    assert len(str(error.value)) < 600


def test_check_sizes_member_too_large_to_be_read_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shards_tools.pack.items.MAX_MEMBER_BYTES", 4)
    _check_sizes({"mp4": bytes(4)})
    with pytest.raises(MediaError, match="mp4 would have 5 bytes, at most 4 are packed"):
        _check_sizes({"mp4": bytes(5)})
