"""Item shards as tasks of a ray cluster, each of which publishes its shard; a lost process or node costs its shards' work."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from mlrec.runtime.printable import brief
from shards_tools.pack.items import (
    Failure,
    ItemJob,
    crashed_item,
    pack_item,
    pack_shard,
    publish_shard,
)
from shards_tools.pack.output import Output, join_output
from shards_tools.pack.pool import map_ordered

RETRIES = 10
"""Of a shard whose process or node is lost; on machines that are taken away at will that happens more than once."""
SHARDS_PER_CPU = 2
"""In flight: the next one waits on the cluster, the others' jobs take no memory there."""


def pack_with_ray(
    shards: Mapping[int, Sequence[ItemJob]], output: Output, workers: int, address: str | None
) -> Generator[list[Failure], None, None]:
    """The engine of a cluster: whole shards, one per CPU; without an address, ray starts on this machine with `workers` CPUs.

    Raises:
        ValueError: ray is not installed, or no cluster is at the address.
        RuntimeError: a shard's process was lost too often.
        Exception: what packing the shard raised.
    """
    if not shards:
        return
    with _joined(workers, address) as ray:
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_pack_and_publish)
        todo = deque(shards.items())
        running: dict[Any, int] = {}
        while todo or running:
            window = SHARDS_PER_CPU * max(
                1, int(ray.cluster_resources().get("CPU", 1))
            )  # nodes come and go
            while todo and len(running) < window:
                shard, jobs = todo.popleft()
                running[task.remote(shard, jobs, output.url)] = shard
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            shard = running.pop(done)
            try:
                failures = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None  # it was raised by our own code there
            except ray.exceptions.RayError as error:
                reason = brief(error)
                raise RuntimeError(
                    f"ray lost item shard {shard} {RETRIES + 1} times, last with: {reason}"
                ) from error
            yield from failures


def _pack_and_publish(shard: int, jobs: Sequence[ItemJob], url: str) -> list[list[Failure]]:
    """Makes one shard, in any process that reaches the raw files and `url`; what of each item failed."""
    # Decoding in a process of its own: a file that crashes it fails by itself here too, and not the whole shard.
    with (
        join_output(url) as output,
        closing(map_ordered(pack_item, jobs, 1, crashed_item)) as packed,
    ):

        def steps() -> Generator[list[Failure], None, None]:
            record = yield from pack_shard(shard, jobs, packed, output.staging)
            publish_shard(shard, record, output)

        return list(steps())


@contextmanager
def _joined(workers: int, address: str | None) -> Iterator[Any]:
    """The module ray, connected."""
    if (
        address is None
    ):  # read by the import: without a cluster of several machines ray listens on the loopback interface alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            f"--engine ray needs ray, which cannot be imported ({error}); pip install 'mlrec[ray]'"
        ) from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        try:
            ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            reason = brief(error)
            raise ValueError(
                f"--address {address}: no ray cluster can be joined there: {reason}"
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_AUTH_TOKEN", secrets.token_hex(32)
    )  # ray would leave one in the home folder
    # In /tmp, whatever TMPDIR says: the names of its sockets may have 107 characters.
    with tempfile.TemporaryDirectory(
        prefix="mlrec-ray-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        # What a killed process leaves in its temporary folder goes with ray's.
        environment = {"env_vars": {"TMPDIR": folder}}
        try:
            ray.init(
                "local",
                num_cpus=workers,
                include_dashboard=False,
                _temp_dir=folder,
                runtime_env=environment,
                **quiet,
            )
            yield ray
        finally:
            ray.shutdown()
