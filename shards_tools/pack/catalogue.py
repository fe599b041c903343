"""The columns of the catalogue, made from the items' jobs and the records of their shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlrec.data.format import CATALOGUE_SCHEMA, Member
from shards_tools.pack.items import ItemJob
from shards_tools.pack.records import ShardRecord

MEMBERS_TYPE = CATALOGUE_SCHEMA.field("members").type


def members_of(jobs: Sequence[ItemJob], record: ShardRecord) -> pa.ListArray:
    """Return the members of each job's item, from the record of their shard.

    They are an arrow array because a million items as Python objects take gigabytes.
    """
    all_members: list[Member] = []
    lengths = []
    for job in jobs:
        members = record.members.get(job.item, [])
        all_members += members
        lengths.append(len(members))
    fields = list(MEMBERS_TYPE.value_type)
    columns = []
    for field in fields:
        values = [getattr(member, field.name) for member in all_members]
        columns.append(pa.array(values, field.type))
    # the members of job j are starts[j] : starts[j + 1] of the joined structs
    starts = pa.array(np.cumsum([0, *lengths]), pa.int32())
    structs = pa.StructArray.from_arrays(columns, fields=fields)
    return pa.ListArray.from_arrays(starts, structs, type=MEMBERS_TYPE)


def catalogue_columns(
    jobs: Sequence[ItemJob],
    members: Sequence[pa.ListArray],
    popularity: np.ndarray,
    items_per_shard: int,
) -> dict[str, Any]:
    """Return the columns of the catalogue by name.

    Args:
        members: `members_of` each shard, in order.
        popularity: int64 [items].
    """
    joined_members = pa.concat_arrays(members)
    # an item without members has failed, and is in no shard
    is_packed = np.diff(joined_members.offsets.to_numpy()) > 0
    shards = np.arange(len(jobs)) // items_per_shard
    return {
        "item": [job.item for job in jobs],
        "raw_id": [job.raw_id for job in jobs],
        "title": [job.title for job in jobs],
        "popularity": popularity.tolist(),
        "likes": [job.likes for job in jobs],
        "views": [job.views for job in jobs],
        "status": np.where(is_packed, "ok", "failed").tolist(),
        "shard": np.where(is_packed, shards, -1).tolist(),
        "members": joined_members,
    }
