"""Item shards: the sample of each item, the shard of a run of items, and the record that says that it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from mlrec import storage
from mlrec.data.format import MAX_MEMBER_BYTES, FileInfo, MediaInfo, Member, item_key, item_shard
from mlrec.runtime.printable import printable
from mlrec.runtime.time_limit import REASON, time_limit
from mlrec.storage.typed_json import STRICT, parse_json
from shards_tools.pack.media import (
    MediaError,
    RawFile,
    audio_flac,
    cover_jpeg,
    read_file,
    video_members,
)
from shards_tools.pack.output import WORK_FOLDER, Output
from shards_tools.pack.tar import TarWriter

RECORD_PREFIX = "items-"

Kind = Literal["video", "cover", "audio"]

Packed = tuple[dict[str, bytes], list["Failure"]]
"""The members of an item's sample, none where its video cannot be read, and what could not be packed."""


@dataclass(frozen=True)
class ItemJob:
    """What the sample of one item is made of."""

    item: int
    raw_id: str
    title: str
    likes: int
    views: int
    video: RawFile | None
    cover: RawFile | None
    audio: RawFile | None
    media: MediaInfo
    quality: int

    def __str__(self) -> str:
        return f"item {self.item} (raw id {self.raw_id})"


@dataclass(frozen=True)
class Failure:
    """A raw file that could not be packed."""

    __pydantic_config__ = STRICT

    item: Annotated[int, Field(ge=1)]
    raw_id: str
    kind: Kind
    """Without its video the item fails; without the others it lacks that member."""
    reason: str


def read_failures(raw: bytes, where: str) -> Iterator[Failure]:
    """Yield the failures of a data set's failures.jsonl, which lies at the URL `where`.

    Raises:
        ValueError: a line is not one.
    """
    for number, line in enumerate(raw.splitlines(), start=1):
        yield parse_json(
            line,
            Failure,
            f"{where}, line {number},",
            "Pack the data set again, or get a whole copy of it",
        )


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a published item shard; its JSON in the work folder makes the shard count as done."""

    __pydantic_config__ = STRICT

    file: FileInfo
    members: dict[int, list[Member]]
    """Of each item whose sample the shard holds."""
    failures: list[Failure]

    def __post_init__(self) -> None:
        for item, run in self.members.items():
            for member in run:
                if (
                    member.offset < 0
                    or member.size < 0
                    or member.offset + member.size > self.file.size
                ):
                    raise ValueError(
                        f"{member.name} of item {item} lies outside the {self.file.size} bytes of its shard"
                    )
                if not 0 <= member.crc32 < 1 << 32:
                    raise ValueError(
                        f"{member.name} of item {item} has the crc32 {member.crc32}, which has 32 bits"
                    )

    @property
    def num_items(self) -> int:
        """Items of the shard, with and without a sample."""
        return len(self.members) + sum(failure.kind == "video" for failure in self.failures)

    def to_bytes(self) -> bytes:
        """The record as JSON."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def parse(raw: bytes, where: str) -> ShardRecord:
        """Return the record that `to_bytes` wrote to the URL `where`.

        Raises:
            ValueError: it is damaged, or another shard's.
        """
        remedy = "Remove this file; the same command then packs its shard again"
        record = parse_json(raw, ShardRecord, where, remedy)
        if not where.endswith(record_name(shard_number(record.file.path))):
            raise ValueError(
                f"{where} is the record of another shard, {printable(record.file.path)}. {remedy}."
            )
        return record


def pack_item(job: ItemJob) -> Packed:
    """The sample of one item."""
    failures: list[Failure] = []

    def attempt(
        kind: Kind, file: RawFile | None, convert: Callable[[bytes], dict[str, bytes]]
    ) -> dict[str, bytes]:
        try:
            content = _read(file)
            with time_limit(len(content)):
                return _checked(convert(content))
        except MediaError as error:
            failures.append(Failure(job.item, job.raw_id, kind, str(error)))
            return {}

    media = job.media
    members: dict[str, bytes] = {}
    if media.kind != "none":
        members |= attempt(
            "video", job.video, lambda content: video_members(content, media, job.quality)
        )
        if failures:
            return {}, failures
    if media.has_cover:
        members |= attempt(
            "cover",
            job.cover,
            lambda content: {"cover.jpg": cover_jpeg(content, media.size, job.quality)},
        )
    members["txt"] = job.title.encode()
    if media.has_audio:
        members |= attempt("audio", job.audio, lambda content: {"flac": audio_flac(content)})
    about = {
        "item": job.item,
        "raw_id": job.raw_id,
        "title": job.title,
        "likes": job.likes,
        "views": job.views,
    }
    members["json"] = json.dumps(about, ensure_ascii=False).encode()
    return members, failures


def _read(file: RawFile | None) -> bytes:
    if file is None or not storage.is_local(file.url):
        return read_file(file)  # remote storage has time limits of its own
    with time_limit(file.size or 0):  # it may be a named pipe that nobody writes to
        return read_file(file)


def _checked(members: dict[str, bytes]) -> dict[str, bytes]:
    """
    Raises:
        MediaError: a member is larger than what is read of a data set.
    """
    for name, content in members.items():
        if len(content) > MAX_MEMBER_BYTES:
            raise MediaError(
                f"{name} would have {len(content):,} bytes, at most {MAX_MEMBER_BYTES:,} are packed"
            )
    return members


def crashed_item(job: ItemJob, is_timeout: bool) -> Packed:
    """Return the failure of an item whose media end the process that decodes them."""
    reason = REASON if is_timeout else "crashed the decoder"
    return {}, [Failure(job.item, job.raw_id, "video", reason)]


def pack_shard(
    shard: int, jobs: Sequence[ItemJob], packed: Iterator[Packed], staging: Path
) -> Generator[list[Failure], None, ShardRecord]:
    """Writes the shard of `jobs` to `staging`; yields what of each item failed, and returns what is to be published.

    Args:
        packed: `pack_item` of each of the jobs, in their order; as many are taken as there are jobs.
    """
    members: dict[int, list[Member]] = {}
    failures: list[Failure] = []
    with TarWriter(_staged(staging, shard)) as tar:
        for job in jobs:
            sample, failed = next(packed)
            if sample:
                members[job.item] = tar.write_sample(item_key(job.item), sample)
            failures += failed
            yield failed
    return ShardRecord(FileInfo(item_shard(shard), tar.size, tar.sha256), members, failures)


def publish_shard(shard: int, record: ShardRecord, output: Output) -> None:
    """Publishes a shard that `pack_shard` wrote, and its record after it, so that a record stands for a whole shard."""
    output.publish(_staged(output.staging, shard), record.file.path)
    output.put_record(record_name(shard), record.to_bytes())


def record_name(shard: int) -> str:
    """The name of a shard's record in the work folder."""
    return f"{RECORD_PREFIX}{shard:05d}.json"


def shard_number(path: str) -> int:
    """Return the number of the item shard at `path` within the data set; -1 if it is not the path of one."""
    number = PurePosixPath(path).stem.removeprefix(RECORD_PREFIX)
    return int(number) if number.isdecimal() and path == item_shard(int(number)) else -1


def _staged(staging: Path, shard: int) -> Path:
    return staging / PurePosixPath(item_shard(shard)).name


def read_shard_records(output: Output) -> Iterator[ShardRecord]:
    """Yield the records of all shards that are done, in order.

    Raises:
        ValueError: a record is damaged.
    """
    for name, raw in output.read_records(RECORD_PREFIX):
        yield ShardRecord.parse(raw, storage.join(output.url, WORK_FOLDER, name))
