"""Loader workers: start them, end all of them, and tell a death from an error."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.queues
import os
import signal
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from mlrec.data.decode_clock import DecodeClock
from mlrec.runtime.distributed import pause_before_fork
from mlrec.runtime.ending import end_with_parent
from mlrec.runtime.terminal import say
from mlrec.runtime.time_limit import allow_time_limit

T = TypeVar("T")

WORKER_DEATHS = 3
"""Deaths of loader workers in a row, without a finished step, after which the run ends."""

KILLED_S = 3.0
"""Seconds to wait for a killed worker, which may be stuck in the kernel."""

log = logging.getLogger(__name__)


class WorkerDiedError(Exception):
    """A loader worker ended before its work was done."""


def workers_output(
    dataset: Dataset[T],
    sampler: Iterable[int] | None,
    num_workers: int,
    pin_memory: bool,
    prefetch_factor: int = 1,
) -> Generator[T]:
    """Yield what loader workers make of a data set; none of them is left afterwards.

    Raises:
        WorkerDiedError: a worker ended; all have ended then.
        RuntimeError: a worker raised an error.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        # Forked workers share the data set's arrays; spawned ones would need a copy of each.
        multiprocessing_context="fork" if num_workers else None,
        prefetch_factor=prefetch_factor if num_workers else None,
        pin_memory=pin_memory,
        worker_init_fn=start_worker,
    )
    pause_before_fork()
    before = set(multiprocessing.active_children())
    try:
        batches = iter(loader)
        # torch's handler would raise anywhere in the main thread. Without it the loader notices a
        # death within seconds. In another thread torch sets none, and Python allows none.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        yield from batches
    except ValueError as error:
        # A ValueError would mean wrong input of the command, on all ranks. This one comes from a
        # step, and perhaps from one rank only.
        raise RuntimeError(str(error)) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        # A worker that dies as it hands a batch over breaks the connection before the loader
        # notices. torch has no exception class for a dead worker, only the start of its message.
        broke_off = num_workers > 0 and not isinstance(error, RuntimeError)
        if not (broke_off or str(error).startswith("DataLoader worker")):
            raise
        raise WorkerDiedError(str(error)) from error
    finally:
        for worker in set(multiprocessing.active_children()) - before:
            # torch would wait for each of them, and they ignore its SIGTERM.
            worker.kill()
            worker.join(KILLED_S)


def log_replacement(clock: DecodeClock, place: str, deaths: int, error: WorkerDiedError) -> None:
    """Log why workers are replaced.

    Raises:
        RuntimeError: they died too often without progress.
    """
    overdue = clock.find_overdue()
    # An item that takes too long is left out from now on, so it cannot end the next worker too.
    if overdue:
        log.warning("%s: the decoding of items %s took too long; they are left out", place, overdue)
    elif deaths == WORKER_DEATHS:
        raise RuntimeError(
            f"{place}: loader workers died {deaths} times in a row, last with: {error}"
        ) from error
    else:
        log.warning("a loader worker died %s and is replaced: %s", place, error)


def start_worker(worker: int) -> None:
    """Prepare a loader worker: it has one thread and ends with its parent.

    It ignores stop signals: the last steps of a run that stops need it.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    end_with_parent(parent.pid)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # More threads per worker would compete with the other workers for the same cores.
    torch.set_num_threads(1)
    allow_time_limit()
    # multiprocessing only prints an error of its queue's thread. The batch would be lost, and the
    # main process would wait for it without end.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]


def _end_worker(error: BaseException, batch: object) -> None:
    say(f"a loader worker cannot hand over a batch: {error}", error=True, flush=True)
    # From the queue's thread, where SystemExit would end the thread and not the process.
    os._exit(1)
