"""Item shards as tasks of a Ray cluster.

Each task publishes its own shard. A process or node that is lost costs only the work on its shards.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from mlrec.runtime.printable import brief
from shards_tools.pack.items import ItemJob, crashed_item, pack_item, pack_shard, publish_shard
from shards_tools.pack.output import Output, join_output
from shards_tools.pack.pool import map_ordered
from shards_tools.pack.records import Failure

MAX_RETRIES = 10
"""Retries of a shard whose process or node is lost, which happens often on spot machines."""
SHARDS_PER_CPU = 2
"""Shards in flight per CPU.

The second one waits on the cluster. Later ones take no memory there.
"""
SOCKET_FOLDER = "/tmp"
"""Folder of Ray's sockets, whatever TMPDIR is: their names may have at most 107 characters."""
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
"""Options of ray.init that keep its log off the terminal."""


def pack_with_ray(
    shards: Mapping[int, Sequence[ItemJob]], output: Output, workers: int, address: str | None
) -> Generator[list[Failure], None, None]:
    """Pack whole shards on a cluster, one per CPU.

    Args:
        address: Address of a cluster; None starts Ray on this machine with `workers` CPUs.

    Raises:
        ValueError: ray is not installed, or no cluster is at the address.
        RuntimeError: a shard's process was lost too often.
        Exception: any error of packing a shard.
    """
    # a cluster takes seconds to join, and a complete data set needs none
    if not shards:
        return
    with _connect(workers, address) as ray:
        # one CPU per shard: its items are decoded one by one, in a process of their own
        task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_pack_and_publish)
        remaining = deque(shards.items())
        running: dict[Any, int] = {}
        while remaining or running:
            # asked again each time: nodes come and go
            num_cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
            while remaining and len(running) < SHARDS_PER_CPU * num_cpus:
                shard, jobs = remaining.popleft()
                running[task.remote(shard, jobs, output.url)] = shard
            # one at a time, so that the next shard starts as soon as one is complete
            done_tasks, _ = ray.wait(list(running), num_returns=1)
            done = done_tasks[0]
            yield from _result(ray, done, running.pop(done))


def _result(ray: Any, task: Any, shard: int) -> list[list[Failure]]:
    """Return the failures of each item of a finished shard.

    Raises:
        RuntimeError: its process was lost too often.
        Exception: any error of packing it.
    """
    try:
        failures: list[list[Failure]] = ray.get(task)
        return failures
    except ray.exceptions.RayTaskError as error:
        # our own code raised it there: it reads as with the local engine
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise RuntimeError(
            f"ray lost item shard {shard} {MAX_RETRIES + 1} times, last with: {brief(error)}"
        ) from error


def _pack_and_publish(shard: int, jobs: Sequence[ItemJob], url: str) -> list[list[Failure]]:
    """Pack one shard in any process that reaches the raw files and `url`.

    Returns:
        The failures of each item.
    """
    with join_output(url) as output:
        return list(_steps(shard, jobs, output))


def _steps(
    shard: int, jobs: Sequence[ItemJob], output: Output
) -> Generator[list[Failure], None, None]:
    # In a process of its own, as with the local engine: a file that crashes it fails by itself.
    with closing(map_ordered(pack_item, jobs, 1, crashed_item)) as packed:
        record = yield from pack_shard(shard, jobs, packed, output.staging)
        publish_shard(shard, record, output)


@contextmanager
def _connect(workers: int, address: str | None) -> Iterator[Any]:
    """Yield the module ray while it is connected to a cluster."""
    if address is None:
        # Read by the import: on a single machine Ray then listens on the loopback interface alone.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            f"--engine ray needs ray, which cannot be imported ({error}). "
            "Run pip install 'mlrec[ray]'"
        ) from error
    connection = _start_here(ray, workers) if address is None else _join(ray, address)
    with connection:
        yield ray


@contextmanager
def _join(ray: Any, address: str) -> Iterator[None]:
    """Connect to a cluster that is running.

    Raises:
        ValueError: there is none at the address.
    """
    # Ray reports a wrong address by any of these, depending on its form.
    try:
        ray.init(address, **QUIET)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise ValueError(
            f"--address {address}: no ray cluster can be joined there: {brief(error)}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _start_here(ray: Any, workers: int) -> Iterator[None]:
    """Start Ray on this machine, and leave nothing behind at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # without a token in the environment Ray would leave one in the home folder
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with tempfile.TemporaryDirectory(
        prefix="mlrec-ray-", dir=SOCKET_FOLDER, ignore_cleanup_errors=True
    ) as folder:
        # Workers have their temporary files in there too: those of a killed process go with Ray's.
        environment = {"env_vars": {"TMPDIR": folder}}
        try:
            ray.init(
                "local",
                num_cpus=workers,
                include_dashboard=False,
                _temp_dir=folder,
                runtime_env=environment,
                **QUIET,
            )
            yield
        finally:
            ray.shutdown()
