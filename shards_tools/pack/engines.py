"""Where item shards are packed: in processes of this machine, or on a ray cluster. The bytes are the same."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from shards_tools.pack.items import (
    Failure,
    ItemJob,
    crashed_item,
    pack_item,
    pack_shard,
    publish_shard,
)
from shards_tools.pack.output import Output
from shards_tools.pack.pool import map_ordered
from shards_tools.pack.ray_engine import pack_with_ray

Engine = Callable[
    [Mapping[int, Sequence[ItemJob]], Output, int, str | None], Generator[list[Failure], None, None]
]
"""(jobs of each shard that is to be made, output, processes on this machine, address of a cluster): publishes the shards and
their records; yields, for each item, what of it failed, once it is packed."""


def pack_locally(
    shards: Mapping[int, Sequence[ItemJob]], output: Output, workers: int, address: str | None
) -> Generator[list[Failure], None, None]:
    """The engine of one machine: all processes work on one shard, while the one before it is published."""
    del address
    jobs = (job for run in shards.values() for job in run)
    published: Future[None] | None = None
    background = ThreadPoolExecutor(1)
    try:
        with closing(map_ordered(pack_item, jobs, workers, crashed_item)) as packed:
            for shard, run in shards.items():
                record = yield from pack_shard(shard, run, packed, output.staging)
                if published is not None:
                    published.result()  # one at a time: staging holds two shards at most
                published = background.submit(publish_shard, shard, record, output)
            if published is not None:
                published.result()
    finally:
        background.shutdown(
            wait=False, cancel_futures=True
        )  # after an error nobody waits for an upload


ENGINES: dict[str, Engine] = {"local": pack_locally, "ray": pack_with_ray}
