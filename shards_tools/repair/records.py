"""Records of the intact item shards, with which the packer leaves these shards as they are."""

from __future__ import annotations

import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import IO, NamedTuple, cast

from mlrec import storage
from mlrec.data.format import FAILURES_FILE, Catalogue, FileInfo, Member, item_shard
from shards_tools.pack.items import ItemJob, crashed_item, pack_item, source_of
from shards_tools.pack.plan import Plan
from shards_tools.pack.pool import map_ordered
from shards_tools.pack.records import Failure, ShardRecord, read_failures, record_name
from shards_tools.repair.output import RepairOutput

Members = dict[int, list[Member]]
"""Members of a shard by item."""


class PackedJob(NamedTuple):
    """A job whose item was packed to an intact shard."""

    job: ItemJob
    members: list[Member]
    """Members of the item; empty if it failed."""


def record_intact_shards(
    plan: Plan, output: RepairOutput, catalogue: Catalogue | None, workers: int
) -> None:
    """Put the records of the intact item shards into the output.

    Args:
        catalogue: None if it is damaged; the shards themselves are read then.
    """
    members_by_shard: dict[int, Members] = {}
    packed_jobs: list[PackedJob] = []
    for shard, jobs in plan.shards.items():
        if output.is_intact_shard(shard):
            members = _members(output, shard, jobs, catalogue)
            members_by_shard[shard] = members
            packed_jobs += [PackedJob(job, members.get(job.item, [])) for job in jobs]
    failures_by_item = _failures_by_item(packed_jobs, output, workers)
    # after the failures of all shards are known, because they may have to be found by packing
    for shard, members in members_by_shard.items():
        failures: list[Failure] = []
        for job in plan.shards[shard]:
            failures += failures_by_item[job.item]
        file = output.files[item_shard(shard)]
        record = ShardRecord(file, members, failures, source_of(plan.shards[shard]))
        output.put_record(record_name(shard), record.to_bytes())


def _members(
    output: RepairOutput, shard: int, jobs: Iterable[ItemJob], catalogue: Catalogue | None
) -> Members:
    """Return the members of an intact shard, from the catalogue or else from the shard."""
    if catalogue is None:
        return _stored_members(output.url, output.files[item_shard(shard)])
    members: Members = {}
    for job in jobs:
        members_of_item = catalogue.members(job.item)
        if members_of_item:
            members[job.item] = members_of_item
    return members


def _stored_members(url: str, file: FileInfo) -> Members:
    """Return the members of a shard by reading it."""
    members: Members = {}
    # "r|" reads from front to back, as remote storage does best
    with (
        storage.open_stream(storage.join(url, file.path)) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        for entry in tar:
            key, name = entry.name.split(".", 1)
            # extractfile returns None for folders and links only, which shards do not have
            content = cast("IO[bytes]", tar.extractfile(entry)).read()
            member = Member(name, entry.offset_data, entry.size, zlib.crc32(content))
            members.setdefault(int(key), []).append(member)
    return members


def _failures_by_item(
    packed_jobs: Iterable[PackedJob], output: RepairOutput, workers: int
) -> dict[int, list[Failure]]:
    """Return the failures of each item.

    They come from failures.jsonl or, if it is damaged, from packing incomplete items again.
    """
    # packing a few items again is slow, but the only other source of the reasons
    if FAILURES_FILE in output.damaged:
        failures = _pack_incomplete(packed_jobs, workers)
    else:
        where = storage.join(output.url, FAILURES_FILE)
        failures = read_failures(storage.read_bytes(where), where)
    failures_by_item: dict[int, list[Failure]] = defaultdict(list)
    for failure in failures:
        failures_by_item[failure.item].append(failure)
    return failures_by_item


def _pack_incomplete(packed_jobs: Iterable[PackedJob], workers: int) -> Iterator[Failure]:
    """Pack the items that lack a member once more, and yield why they do."""
    incomplete = [packed.job for packed in packed_jobs if _lacks_member(packed)]
    with closing(map_ordered(pack_item, incomplete, workers, crashed_item)) as results:
        for result in results:
            yield from result.failures


def _lacks_member(packed: PackedJob) -> bool:
    """Return whether a raw file of the item failed, judged by the members of its sample."""
    job = packed.job
    names = {member.name for member in packed.members}
    lacks_cover = job.cover is not None and "cover.jpg" not in names
    lacks_audio = job.audio is not None and "flac" not in names
    return not names or lacks_cover or lacks_audio
