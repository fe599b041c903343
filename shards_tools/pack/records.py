"""Records of what was packed: complete item shards, and raw files that failed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from mlrec import storage
from mlrec.data.format import FileInfo, Member, item_shard
from mlrec.runtime.printable import printable
from mlrec.storage.typed_json import STRICT, parse_json
from shards_tools.pack.output import Output
from shards_tools.raw.listing import WORK_FOLDER

RECORD_PREFIX = "items-"

Kind = Literal["video", "cover", "audio"]

FAILURE_COUNTS: dict[Kind, str] = {
    "video": "failed_items",
    "cover": "failed_covers",
    "audio": "failed_audio",
}
"""Count of dataset.json by the kind of file that failed."""


@dataclass(frozen=True)
class Failure:
    """A raw file that could not be packed."""

    __pydantic_config__ = STRICT

    item: Annotated[int, Field(ge=1)]
    """Catalogue id."""
    raw_id: str
    kind: Kind
    """Kind of file. Without its video the item fails; without the others it lacks that member."""
    reason: str


def failed_items(failures: Iterable[Failure]) -> list[Failure]:
    """Return the failures that cost an item, which are those of videos."""
    return [failure for failure in failures if failure.kind == "video"]


def read_failures(raw: bytes, where: str) -> Iterator[Failure]:
    """Yield the failures in a data set's failures.jsonl.

    Args:
        raw: Content of the file.
        where: URL of the file, for messages.

    Raises:
        ValueError: a line is malformed.
    """
    remedy = "Pack the data set again, or get an undamaged copy of it"
    # each line by itself, so that an error names the line
    for number, line in enumerate(raw.splitlines(), start=1):
        yield parse_json(line, Failure, f"{where}, line {number},", remedy)


def failures_bytes(failures: Iterable[Failure]) -> bytes:
    """Return the content of failures.jsonl, in catalogue order."""
    # engines finish items in any order
    ordered = sorted(failures, key=lambda failure: failure.item)
    lines = [json.dumps(asdict(failure), ensure_ascii=False) + "\n" for failure in ordered]
    return "".join(lines).encode()


@dataclass(frozen=True)
class ShardRecord:
    """Contents of a published item shard.

    Its JSON in the work folder marks the shard as complete.
    """

    __pydantic_config__ = STRICT

    file: FileInfo
    members: dict[int, list[Member]]
    """Members by item, for items whose sample the shard holds."""
    failures: list[Failure]
    source: str
    """SHA-256 of what the shard was made of, from `source_of`."""

    def __post_init__(self) -> None:
        # a record may come back damaged, and its members are read without further checks
        for item, members in self.members.items():
            for member in members:
                _check_member(member, item, self.file.size)

    @property
    def num_items(self) -> int:
        """Number of items of the shard, with and without a sample."""
        return len(self.members) + len(failed_items(self.failures))

    def to_bytes(self) -> bytes:
        """Return the record as JSON."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def parse(raw: bytes, where: str) -> ShardRecord:
        """Return the record that `to_bytes` wrote to the URL `where`.

        Raises:
            ValueError: it is damaged, or belongs to another shard.
        """
        remedy = "Remove this file; the same command then packs its shard again"
        record = parse_json(raw, ShardRecord, where, remedy)
        # a record that was copied under another name would hide a shard that was never packed
        if not where.endswith(record_name(shard_number(record.file.path))):
            raise ValueError(
                f"{where} is the record of another shard, {printable(record.file.path)}. {remedy}."
            )
        return record


def _check_member(member: Member, item: int, shard_bytes: int) -> None:
    """Check that a member can be in a shard of `shard_bytes`.

    Raises:
        ValueError: it cannot.
    """
    if member.offset < 0 or member.size < 0 or member.offset + member.size > shard_bytes:
        raise ValueError(
            f"{member.name} of item {item} lies outside the {shard_bytes} bytes of its shard"
        )
    if not 0 <= member.crc32 < 1 << 32:
        raise ValueError(
            f"{member.name} of item {item} has the crc32 {member.crc32}, which has 32 bits"
        )


def record_name(shard: int) -> str:
    """Return the name of a shard's record in the work folder."""
    return f"{RECORD_PREFIX}{shard:05d}.json"


def shard_number(path: str) -> int:
    """Return the number of the item shard at `path` in the data set; -1 for other paths."""
    # compared with item_shard: "items/../items-00000.tar" has the right stem too
    number = PurePosixPath(path).stem.removeprefix(RECORD_PREFIX)
    return int(number) if number.isdecimal() and path == item_shard(int(number)) else -1


def read_shard_records(output: Output) -> Iterator[ShardRecord]:
    """Yield the records of all complete shards, in order.

    Raises:
        ValueError: a record is damaged.
    """
    # numbers have five digits, so that the order of names is that of shards
    for name, raw in output.read_records(RECORD_PREFIX):
        yield ShardRecord.parse(raw, storage.join(output.url, WORK_FOLDER, name))
