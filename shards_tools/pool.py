"""A process pool that yields results in order, keeps few jobs in flight and survives neither its parent nor a dead worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

JOBS_PER_WORKER = 4
"""In flight; more would only hold more finished results in memory."""


def map_ordered(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Generator[Result, None, None]:
    """Yields `function` of each job in the order of `jobs`, computed in processes; close the generator to stop them early.

    Raises:
        RuntimeError: a worker process died.
        Exception: what `function` raised.
    """
    # spawned, not forked: the parent may hold threads of a storage client
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    pending: deque[tuple[Job, Future[Result]]] = deque()
    try:
        for job in jobs:
            with _interrupt_delayed():
                pending.append((job, pool.submit(function, job)))
            if len(pending) == JOBS_PER_WORKER * workers:
                yield pending[0][1].result()
                pending.popleft()
        while pending:
            yield pending[0][1].result()
            pending.popleft()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a worker process died at or soon after {pending[0][0]}: memory ran out, or a decoder crashed on a file; "
            "try fewer --workers, or take that file away"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupt_delayed() -> Iterator[None]:
    """Holds Ctrl-C back; a worker that is started meanwhile keeps it back for good and leaves it to its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_parent() -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a parent that was killed cannot stop its workers
