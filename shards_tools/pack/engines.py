"""Engines pack item shards: in processes of this machine, or on a Ray cluster.

Both write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from shards_tools.pack.items import ItemJob, crashed_item, pack_item, pack_shard, publish_shard
from shards_tools.pack.output import Output
from shards_tools.pack.pool import map_ordered
from shards_tools.pack.ray_engine import pack_with_ray
from shards_tools.pack.records import Failure

Engine = Callable[
    [Mapping[int, Sequence[ItemJob]], Output, int, str | None], Generator[list[Failure], None, None]
]
"""Publishes shards and their records, and yields the failures of each item once it is packed.

Takes the jobs of each shard, the output, the processes on this machine, and the address of a
cluster.
"""


def pack_locally(
    shards: Mapping[int, Sequence[ItemJob]], output: Output, workers: int, address: str | None
) -> Generator[list[Failure], None, None]:
    """Pack in processes of this machine.

    All processes work on one shard, while a thread publishes the shard before it.
    """
    # engines share a signature, so that ENGINES can hold both
    del address
    upload: Future[None] | None = None
    uploader = ThreadPoolExecutor(1)
    try:
        with closing(map_ordered(pack_item, _all_jobs(shards), workers, crashed_item)) as packed:
            for shard, jobs in shards.items():
                record = yield from pack_shard(shard, jobs, packed, output.staging)
                if upload is not None:
                    # one upload at a time, so that staging holds two shards at most
                    upload.result()
                upload = uploader.submit(publish_shard, shard, record, output)
            if upload is not None:
                upload.result()
    finally:
        # after an error nobody waits for an upload
        uploader.shutdown(wait=False, cancel_futures=True)


def _all_jobs(shards: Mapping[int, Sequence[ItemJob]]) -> Iterator[ItemJob]:
    for jobs in shards.values():
        yield from jobs


ENGINES: dict[str, Engine] = {"local": pack_locally, "ray": pack_with_ray}
"""Engine by the value of --engine."""
