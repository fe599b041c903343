"""All item shards of a data set, as their records describe them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from mlrec import storage
from mlrec.data.format import FileInfo, item_shard
from shards_tools.pack.catalogue import members_of
from shards_tools.pack.items import ItemJob, source_of
from shards_tools.pack.output import Output
from shards_tools.pack.plan import Plan
from shards_tools.pack.records import (
    FAILURE_COUNTS,
    Failure,
    ShardRecord,
    failed_items,
    read_shard_records,
    record_name,
    shard_number,
)
from shards_tools.raw.listing import WORK_FOLDER


@dataclass(frozen=True)
class PackedShards:
    """All item shards, from their records."""

    files: list[FileInfo]
    failures: list[Failure]
    """Failures in catalogue order."""
    members: list[pa.ListArray]
    """Members of the items of each shard, in catalogue order."""
    items_with: Counter[str]
    """Number of items that have a member, by its name."""


class CurrentShards(NamedTuple):
    """Complete shards of an earlier run."""

    records: list[ShardRecord]
    """Records of the shards that the plan would pack to the same bytes."""
    num_stale: int
    """Number of other shards, which were removed."""


def keep_current_shards(plan: Plan, output: Output) -> CurrentShards:
    """Return the shards of an earlier run, and remove those whose raw files have changed since.

    Raises:
        ValueError: a record is damaged.
    """
    jobs_at = {item_shard(shard): jobs for shard, jobs in plan.shards.items()}
    current: list[ShardRecord] = []
    num_stale = 0
    for record in read_shard_records(output):
        path = record.file.path
        if path in jobs_at and source_of(jobs_at[path]) == record.source:
            current.append(record)
        else:
            # the record first: it must never stand for a shard that is gone
            output.remove(f"{WORK_FOLDER}/{record_name(shard_number(path))}")
            output.remove(path)
            num_stale += 1
    return CurrentShards(current, num_stale)


def read_packed_shards(plan: Plan, output: Output) -> PackedShards:
    """Return what the records of the item shards say.

    Raises:
        ValueError: a record is damaged, or has other items than the plan.
    """
    shards = PackedShards(files=[], failures=[], members=[], items_with=Counter())
    records = read_shard_records(output)
    for record, (shard, jobs) in zip(records, plan.shards.items(), strict=True):
        _check_record(record, jobs, storage.join(output.url, WORK_FOLDER, record_name(shard)))
        shards.files.append(record.file)
        shards.failures.extend(record.failures)
        shards.members.append(members_of(jobs, record))
        for members in record.members.values():
            shards.items_with.update(member.name for member in members)
    return shards


def _check_record(record: ShardRecord, jobs: Sequence[ItemJob], where: str) -> None:
    """Check that the record at the URL `where` has exactly the items of `jobs`.

    Raises:
        ValueError: it has others.
    """
    # each item is either in the shard or has failed, never both and never neither
    failed = [failure.item for failure in failed_items(record.failures)]
    if sorted([*record.members, *failed]) != [job.item for job in jobs]:
        raise ValueError(
            f"{where} records other items than those of {record.file.path}. "
            "Remove it; the same command then packs its shard again."
        )


def media_counts(plan: Plan, shards: PackedShards) -> dict[str, int]:
    """Return the counts of dataset.json about raw files that failed and items without a part.

    An item without its video has failed. The other counts are about the items that are packed.
    """
    counts = {"items": len(plan.jobs), "items_without_title": _untitled(plan, shards.failures)}
    num_failures = Counter(failure.kind for failure in shards.failures)
    for kind, key in FAILURE_COUNTS.items():
        counts[key] = num_failures[kind]
    num_packed = counts["items"] - counts["failed_items"]
    # of a data set without any covers or audio there is nothing to count
    if plan.media.has_cover:
        num_lacking = num_packed - shards.items_with["cover.jpg"]
        counts["items_without_cover"] = num_lacking - counts["failed_covers"]
    if plan.media.has_audio:
        num_lacking = num_packed - shards.items_with["flac"]
        counts["items_without_audio"] = num_lacking - counts["failed_audio"]
    return counts


def _untitled(plan: Plan, failures: list[Failure]) -> int:
    """Return the number of packed items without a title."""
    failed = {failure.item for failure in failed_items(failures)}
    return sum(not job.title and job.item not in failed for job in plan.jobs)
