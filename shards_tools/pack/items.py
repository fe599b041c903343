"""Item shards: the sample of an item, and the shard of a run of items."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from mlrec import storage
from mlrec.data.format import (
    MAX_MEMBER_BYTES,
    FileInfo,
    MediaInfo,
    Member,
    item_key,
    item_shard,
    npy_bytes,
)
from mlrec.data.media.policies import FrameRequest
from mlrec.runtime.time_limit import REASON, time_limit
from shards_tools.pack.image_frames import ImageSource, choose_images
from shards_tools.pack.media import audio_flac, cover_jpeg, frame_members, video_members
from shards_tools.pack.output import Output
from shards_tools.pack.raw_files import MAX_IMAGE_BYTES, MAX_RAW_BYTES, MediaError, read_file
from shards_tools.pack.records import Failure, Kind, ShardRecord, record_name
from shards_tools.pack.tar import TarWriter
from shards_tools.raw.media.raw_file import RawFile


@dataclass(frozen=True)
class ItemJob:
    """Everything that the sample of one item is made of."""

    item: int
    """Catalogue id."""
    raw_id: str
    title: str
    likes: int
    views: int
    video: RawFile | None
    frames: tuple[RawFile, ...]
    """Images that stand for the video, in their order; empty for an item with a video."""
    cover: RawFile | None
    audio: RawFile | None
    media: MediaInfo
    quality: int
    """JPEG quality, from 1 to 100."""
    title_checkpoint: str = ""
    """Folder or URL of the CLIP model of policy title; "" with other policies."""
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Vectors by name, float32 [width]; a name is missing where the item has none."""

    def __str__(self) -> str:
        return f"item {self.item} (raw id {self.raw_id})"


class Packed(NamedTuple):
    """The sample of an item."""

    members: dict[str, bytes]
    """Content by the name of the member; empty if the video cannot be read."""
    failures: list[Failure]


def pack_item(job: ItemJob) -> Packed:
    """Return the sample of one item."""
    media = job.media
    sample = _Sample(job)
    if media.kind != "none":
        sample.add_video()
        # an item without its video is left out, so that nothing else of it is read
        if sample.failures:
            return Packed({}, sample.failures)
    # next to the frames and the cover, so that one read without audio covers them
    for name, vector in job.features.items():
        sample.members[f"{name}.npy"] = npy_bytes(vector)
    # an item without cover or audio stays, because many items have none: that is no failure
    if job.cover is not None:
        sample.add(
            "cover",
            job.cover,
            lambda content: {"cover.jpg": cover_jpeg(content, media.size, job.quality)},
        )
    # members are in a fixed order, which the bytes of the shard depend on
    sample.members["txt"] = job.title.encode()
    if job.audio is not None:
        sample.add("audio", job.audio, _audio_members)
    about = {
        "item": job.item,
        "raw_id": job.raw_id,
        "title": job.title,
        "likes": job.likes,
        "views": job.views,
    }
    sample.members["json"] = json.dumps(about, ensure_ascii=False).encode()
    return Packed(sample.members, sample.failures)


def frame_request(job: ItemJob) -> FrameRequest:
    """Return what the frame policy gets of an item.

    Raises:
        ValueError: the CLIP model of policy title cannot be loaded.
    """
    similarity = None
    if job.title_checkpoint:
        # imports torch, which the other policies do not need
        from shards_tools.pack.clip import similarity_of

        similarity = similarity_of(job.title_checkpoint)
    return FrameRequest(job.media.frames, job.media.interval, job.title, similarity)


class _Sample:
    """The members and failures of an item so far. The order of the members is that in the shard."""

    def __init__(self, job: ItemJob) -> None:
        self._job = job
        self.members: dict[str, bytes] = {}
        self.failures: list[Failure] = []

    def add_video(self) -> None:
        """Add the members of the video, or of the frames that stand for it."""
        job = self._job
        request = frame_request(job)
        if job.frames:
            source = ImageSource(job.frames, _read_image)
            self._add(
                "video",
                lambda: frame_members(choose_images(source, job.media, request), job.quality),
            )
        else:
            self.add(
                "video",
                job.video,
                lambda content: video_members(content, job.media, job.quality, request),
            )

    def add(
        self, kind: Kind, file: RawFile | None, convert: Callable[[bytes], dict[str, bytes]]
    ) -> None:
        """Add the members that `convert` makes of a raw file, or the reason why it cannot."""

        def make() -> dict[str, bytes]:
            content = _read_image(file) if kind == "cover" else _read(file)
            # some damaged files send decoders into endless loops
            with time_limit(len(content)):
                return convert(content)

        self._add(kind, make)

    def _add(self, kind: Kind, make: Callable[[], dict[str, bytes]]) -> None:
        try:
            members = make()
            _check_sizes(members)
        # only MediaError: any other exception is a bug, or the fault of the storage, and ends the
        # run
        except MediaError as error:
            failure = Failure(self._job.item, self._job.raw_id, kind, str(error))
            self.failures.append(failure)
        else:
            self.members |= members


def _read_image(file: RawFile | None) -> bytes:
    return _read(file, MAX_IMAGE_BYTES)


def _read(file: RawFile | None, max_bytes: int = MAX_RAW_BYTES) -> bytes:
    if file is None or not storage.is_local(file.url):
        # remote storage has time limits of its own
        return read_file(file, max_bytes)
    # a local file may be a named pipe that nobody writes to
    with time_limit(file.size or 0):
        return read_file(file, max_bytes)


def _audio_members(content: bytes) -> dict[str, bytes]:
    """Return the audio of an item; nothing for a recording without an audio stream."""
    flac = audio_flac(content)
    return {"flac": flac} if flac else {}


def _check_sizes(members: dict[str, bytes]) -> None:
    """Check that readers of data sets accept each member.

    Raises:
        MediaError: one is too large.
    """
    for name, content in members.items():
        if len(content) > MAX_MEMBER_BYTES:
            raise MediaError(
                f"{name} would have {len(content):,} bytes, at most {MAX_MEMBER_BYTES:,} are packed"
            )


def crashed_item(job: ItemJob, is_timeout: bool) -> Packed:
    """Return the failure of an item whose media crash or stall the process that decodes them."""
    reason = REASON if is_timeout else "crashed the decoder"
    return Packed({}, [Failure(job.item, job.raw_id, "video", reason)])


def pack_shard(
    shard: int, jobs: Sequence[ItemJob], packed: Iterator[Packed], staging: Path
) -> Generator[list[Failure], None, ShardRecord]:
    """Write a shard to `staging`.

    Args:
        packed: `pack_item` of each job, in order. One is taken per job.

    Yields:
        The failures of each item.

    Returns:
        The record to publish.
    """
    members: dict[int, list[Member]] = {}
    failures: list[Failure] = []
    with TarWriter(_staged(staging, shard)) as tar:
        for job in jobs:
            # results come in the order of the jobs, whatever process was faster
            sample = next(packed)
            if sample.members:
                members[job.item] = tar.write_sample(item_key(job.item), sample.members)
            failures += sample.failures
            # one list per item, also an empty one: the caller counts items by them
            yield sample.failures
    file = FileInfo(item_shard(shard), tar.size, tar.sha256)
    return ShardRecord(file, members, failures, source_of(jobs))


def source_of(jobs: Sequence[ItemJob]) -> str:
    """Return the SHA-256 of what a shard is made of: settings, rows of tables and raw files.

    Raw files count by name, size and version. They are not read.

    Args:
        jobs: One or more jobs of one plan.
    """
    # The checkpoint may move, and media, which is the same in all jobs, has its weights' checksum.
    names = {part.name for part in fields(ItemJob)} - {"title_checkpoint", "media"}
    digest = hashlib.sha256(json.dumps(asdict(jobs[0].media), sort_keys=True).encode())
    for job in jobs:
        content = {name: _identity(getattr(job, name)) for name in names}
        digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()


def _identity(value: object) -> object:
    """Return a field of a job in a form that JSON holds."""
    if isinstance(value, RawFile):
        return value.identity
    if isinstance(value, Mapping):
        return {
            name: hashlib.sha256(vector.tobytes()).hexdigest() for name, vector in value.items()
        }
    # frames
    if isinstance(value, tuple):
        return [_identity(file) for file in value]
    return value


def publish_shard(shard: int, record: ShardRecord, output: Output) -> None:
    """Publish a shard that `pack_shard` wrote, then its record.

    In this order a record always stands for a complete shard, also after a crash in between.
    """
    output.publish(_staged(output.staging, shard), record.file.path)
    output.put_record(record_name(shard), record.to_bytes())


def _staged(staging: Path, shard: int) -> Path:
    return staging / PurePosixPath(item_shard(shard)).name
