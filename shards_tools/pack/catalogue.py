"""The columns of the catalogue, out of the items' jobs and the records of their shards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from mlrec.data.format import CATALOGUE_SCHEMA
from shards_tools.pack.items import ItemJob, ShardRecord

MEMBERS = CATALOGUE_SCHEMA.field("members").type


def members_of(jobs: Sequence[ItemJob], record: ShardRecord) -> pa.ListArray:
    """What the record of a shard says of each of its jobs, as arrow keeps it: a million items as objects take gigabytes."""
    runs = [record.members.get(job.item, []) for job in jobs]
    found = list(chain.from_iterable(runs))
    fields = list(MEMBERS.value_type)
    columns = [
        pa.array([getattr(member, field.name) for member in found], field.type) for field in fields
    ]
    starts = pa.array(np.cumsum([0, *map(len, runs)]), pa.int32())
    return pa.ListArray.from_arrays(
        starts, pa.StructArray.from_arrays(columns, fields=fields), type=MEMBERS
    )


def catalogue_columns(
    jobs: Sequence[ItemJob],
    members: Sequence[pa.ListArray],
    popularity: np.ndarray,
    items_per_shard: int,
) -> dict[str, Any]:
    """The columns of the catalogue.

    Args:
        members: `members_of` each shard, in order.
        popularity: int64 [items].
    """
    joined = pa.concat_arrays(members)
    packed = np.diff(joined.offsets.to_numpy()) > 0
    return {
        "item": [job.item for job in jobs],
        "raw_id": [job.raw_id for job in jobs],
        "title": [job.title for job in jobs],
        "popularity": popularity.tolist(),
        "likes": [job.likes for job in jobs],
        "views": [job.views for job in jobs],
        "status": np.where(packed, "ok", "failed").tolist(),
        "shard": np.where(packed, np.arange(len(jobs)) // items_per_shard, -1).tolist(),
        "members": joined,
    }
