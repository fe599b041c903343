"""Jobs in processes: results in order, few jobs in flight, no process that outlives its parent, none whose death ends the run."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar, cast

Job = TypeVar("Job")
Result = TypeVar("Result")

JOBS_PER_WORKER = 4
"""In flight; more would only hold more finished results in memory."""
START_TRIES = 3


class _ProcessDiedError(Exception):
    """The process that was at work on a job is gone."""


def map_ordered(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    crashed: Callable[[Job], Result] | None = None,
) -> Generator[Result, None, None]:
    """Yields `function` of each job in the order of `jobs`, computed in processes; close the generator to stop them early.

    A job whose process dies (killed, out of memory, a crash in a decoder) is done once more, with no other beside it.

    Args:
        crashed: the result of a job whose process died both times.

    Raises:
        RuntimeError: a job's process died both times and there is no `crashed`, or processes die as they start.
        Exception: what `function` raised.
    """
    processes = _Processes()
    threads = ThreadPoolExecutor(workers)
    pending: deque[tuple[Job, Future[Result]]] = deque()

    def next_result() -> Result:
        job, future = pending[0]
        try:
            result = future.result()
        except _ProcessDiedError:
            wait([running for _, running in pending])
            result = again(job)
        pending.popleft()
        return result

    def again(job: Job) -> Result:
        try:
            return threads.submit(processes.run, function, job).result()
        except _ProcessDiedError as error:
            if crashed is None:
                raise RuntimeError(
                    f"a worker process died twice at {job}: memory ran out, or a library crashed; try fewer --workers"
                ) from error
            return crashed(job)

    try:
        for job in jobs:
            pending.append((job, threads.submit(processes.run, function, job)))
            if len(pending) == JOBS_PER_WORKER * workers:
                yield next_result()
        while pending:
            yield next_result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
        processes.close()


class _Processes:
    """One process for each thread that runs jobs: when it dies, its one job is the one that was at work.

    They talk over pipes alone; locks that several processes share would outlive a parent that is killed.
    """

    def __init__(self) -> None:
        self._mine = threading.local()
        self._all: list[tuple[SpawnProcess, Connection[Any, Any]]] = []

    def run(self, function: Callable[[Job], Result], job: Job) -> Result:
        """`function` of `job` in the calling thread's process.

        Raises:
            _ProcessDiedError: the process died; the next job gets a new one.
        """
        pipe: Connection[Any, Any] | None = getattr(self._mine, "pipe", None)
        if pipe is None:
            pipe = self._mine.pipe = self._start()
        try:
            pipe.send((function, job))
            succeeded, result = pipe.recv()
        except (EOFError, ConnectionError) as error:
            self._mine.pipe = None
            raise _ProcessDiedError from error
        if not succeeded:
            raise result
        return cast(Result, result)

    def _start(self) -> Connection[Any, Any]:
        # spawned, not forked: the parent holds threads, and a storage client's
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # its start would end the delay below
        for _ in range(START_TRIES):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            with _interrupt_delayed():
                process.start()
            theirs.close()
            self._all.append((process, ours))
            try:
                ours.recv()  # a process that cannot start is no fault of the job's
                return ours
            except (EOFError, ConnectionError):
                continue
        raise RuntimeError(f"worker processes died {START_TRIES} times as they started: memory ran out, or something kills them")

    def close(self) -> None:
        """Ends the processes; none of them may be at work."""
        for _, pipe in self._all:
            pipe.close()
        for process, _ in self._all:
            process.join()


def _serve(pipe: Connection[Any, Any]) -> None:
    """Does the jobs that arrive until the pipe is closed."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        pipe.send(None)
        while True:
            function, job = pipe.recv()
            try:
                answer = (True, function(job))
            except Exception as error:  # whatever it is, it is raised where the result is awaited
                answer = (False, _sendable(error))
            pipe.send(answer)
    except (EOFError, ConnectionError):  # the packer is gone
        return


def _sendable(error: Exception) -> Exception:
    """The error, or its words where it cannot be sent: that of a client library may hold anything."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _interrupt_delayed() -> Iterator[None]:
    """Holds Ctrl-C back; a process that is started meanwhile keeps it back for good and leaves it to its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a parent that was killed cannot stop its workers
