"""Item shards: each item's sample made in a pool of processes, written in order, restartable shard by shard."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from mlrec.data.format import FileInfo, MediaInfo, Member, item_key, item_shard
from shards_tools.media import MediaError, audio_flac, cover_jpeg, read_file, video_members
from shards_tools.output import Output
from shards_tools.pool import map_ordered
from shards_tools.tar import TarWriter

RECORD_PREFIX = "items-"


@dataclass(frozen=True)
class ItemJob:
    """What the sample of one item is made of."""

    item: int
    raw_id: str
    title: str
    likes: int
    views: int
    video: Path | None
    cover: Path | None
    audio: Path | None
    media: MediaInfo
    quality: int

    def __str__(self) -> str:
        return f"item {self.item} (raw id {self.raw_id})"


@dataclass(frozen=True)
class Failure:
    """A raw file that could not be packed."""

    item: int
    raw_id: str
    kind: Literal["video", "cover", "audio"]
    """Without its video the item fails; without the others it lacks that member."""
    reason: str


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a published item shard; its JSON in the work folder makes the shard count as done."""

    file: FileInfo
    members: dict[int, list[Member]]
    """Of each item whose sample the shard holds."""
    failures: list[Failure]

    @property
    def num_items(self) -> int:
        """Items of the shard, with and without a sample."""
        return len(self.members) + sum(failure.kind == "video" for failure in self.failures)

    def to_bytes(self) -> bytes:
        """The record as JSON."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def parse(raw: bytes) -> ShardRecord:
        """The record that `to_bytes` wrote."""
        content = json.loads(raw)
        members = {int(item): [Member(**member) for member in run] for item, run in content["members"].items()}
        return ShardRecord(FileInfo(**content["file"]), members, [Failure(**failure) for failure in content["failures"]])


def pack_item(job: ItemJob) -> tuple[dict[str, bytes], list[Failure]]:
    """The members of the item's sample, none where its video cannot be read, and what could not be packed."""
    failures: list[Failure] = []

    def attempt(kind: Literal["video", "cover", "audio"], convert: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
        try:
            return convert()
        except MediaError as error:
            failures.append(Failure(job.item, job.raw_id, kind, str(error)))
            return {}

    media = job.media
    members: dict[str, bytes] = {}
    if media.kind != "none":
        members |= attempt("video", lambda: video_members(read_file(job.video), media, job.quality))
        if failures:
            return {}, failures
    if media.has_cover:
        members |= attempt("cover", lambda: {"cover.jpg": cover_jpeg(read_file(job.cover), media.size, job.quality)})
    members["txt"] = job.title.encode()
    if media.has_audio:
        members |= attempt("audio", lambda: {"flac": audio_flac(read_file(job.audio))})
    about = {"item": job.item, "raw_id": job.raw_id, "title": job.title, "likes": job.likes, "views": job.views}
    members["json"] = json.dumps(about, ensure_ascii=False).encode()
    return members, failures


def pack_items(
    jobs: Sequence[ItemJob], items_per_shard: int, earlier: Sequence[ShardRecord], output: Output, workers: int
) -> Generator[list[Failure], None, None]:
    """Writes the item shards that `earlier` runs left to do; yields, for each of their items, what of it failed.

    A shard is published first and its record after it, so that a record stands for a whole shard.
    """
    done = {record.file.path for record in earlier}
    shards = {shard: jobs[first : first + items_per_shard] for shard, first in enumerate(range(0, len(jobs), items_per_shard))}
    todo = {shard: run for shard, run in shards.items() if item_shard(shard) not in done}
    with closing(map_ordered(pack_item, (job for run in todo.values() for job in run), workers)) as packed:
        for shard, run in todo.items():
            members: dict[int, list[Member]] = {}
            failures: list[Failure] = []
            staged = output.staging / "items.tar"
            with TarWriter(staged) as tar:
                for job, (sample, failed) in zip(run, islice(packed, len(run)), strict=True):
                    if sample:
                        members[job.item] = tar.write_sample(item_key(job.item), sample)
                    failures += failed
                    yield failed
            output.publish(staged, item_shard(shard))
            record = ShardRecord(FileInfo(item_shard(shard), tar.size, tar.sha256), members, failures)
            output.put_record(f"{RECORD_PREFIX}{shard:05d}.json", record.to_bytes())


def read_shard_records(output: Output) -> list[ShardRecord]:
    """The records of all shards that are done, in order."""
    return [ShardRecord.parse(raw) for raw in output.read_records(RECORD_PREFIX).values()]
