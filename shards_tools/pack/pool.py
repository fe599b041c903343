"""Jobs in processes: results in order, few jobs in flight, no process that outlives its parent, none whose death ends the run.

A job may end its process by `mlrec.runtime.time_limit`.
"""

from __future__ import annotations

import multiprocessing
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

from mlrec.runtime.ending import end_with_parent
from mlrec.runtime.time_limit import allow_time_limit

Job = TypeVar("Job")
Result = TypeVar("Result")

JOBS_PER_WORKER = 4
"""In flight; more would only hold more finished results in memory."""
START_TRIES = 3
END_S = 5.0
"""Seconds for a process that closed its pipe to end by itself."""


class _ProcessDiedError(Exception):
    """The process that was at work on a job is gone."""

    def __init__(self, is_timeout: bool) -> None:
        super().__init__(is_timeout)
        self.is_timeout = is_timeout


def map_ordered(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    crashed: Callable[[Job, bool], Result] | None = None,
) -> Generator[Result, None, None]:
    """Yield `function` of each job in the order of `jobs`, computed in processes; close the generator to stop them early.

    A job whose process dies (killed, out of memory, a crash in a decoder) is run once more, with no other at the same time.
    A job that exceeds its time limit is not.

    Args:
        crashed: returns the result of a job whose process died both times (False) or exceeded its time limit (True).

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
        except _ProcessDiedError as error:
            result = given_up(job, error) if error.is_timeout else again(job)
        pending.popleft()
        return result

    def again(job: Job) -> Result:
        wait([running for _, running in pending])
        try:
            return threads.submit(processes.run, function, job).result()
        except _ProcessDiedError as error:
            return given_up(job, error)

    def given_up(job: Job, error: _ProcessDiedError) -> Result:
        if crashed is not None:
            return crashed(job, error.is_timeout)
        if error.is_timeout:
            raise RuntimeError(f"a worker process exceeded its time limit at {job}") from error
        raise RuntimeError(
            f"a worker process died twice at {job}: memory ran out, or a library crashed; try fewer --workers"
        ) from error

    try:
        for job in jobs:
            pending.append((job, threads.submit(processes.run, function, job)))
            if len(pending) == JOBS_PER_WORKER * workers:
                yield next_result()
        while pending:
            yield next_result()
    finally:
        # first the processes: a thread waits for its job, which may take until its time limit
        processes.kill()
        threads.shutdown(wait=True, cancel_futures=True)


class _Processes:
    """One process for each thread that runs jobs: when it dies, its one job is the one that was at work.

    They talk over pipes alone; locks that several processes share would outlive a parent that is killed.
    """

    def __init__(self) -> None:
        self._mine = threading.local()
        self._all: list[tuple[SpawnProcess, Connection[Any, Any]]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def run(self, function: Callable[[Job], Result], job: Job) -> Result:
        """Return `function` of `job`, computed in the calling thread's process.

        Raises:
            _ProcessDiedError: the process died; the next job gets a new one.
        """
        if getattr(self._mine, "process", None) is None:
            self._mine.process, self._mine.pipe = self._start()
        process: SpawnProcess = self._mine.process
        pipe: Connection[Any, Any] = self._mine.pipe
        try:
            pipe.send((function, job))
            succeeded, result = pipe.recv()
        except (EOFError, OSError) as error:
            self._mine.process = None
            process.join(END_S)
            process.kill()
            raise _ProcessDiedError(process.exitcode == -signal.SIGALRM) from error
        if not succeeded:
            raise result
        return cast(Result, result)

    def _start(self) -> tuple[SpawnProcess, Connection[Any, Any]]:
        # spawned, not forked: the parent holds threads, and a storage client's
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # its start would end the delay below
        for _ in range(START_TRIES):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            with self._lock:
                if self._is_closed:
                    raise _ProcessDiedError(is_timeout=False)
                with _interrupt_delayed():
                    process.start()
                self._all.append((process, ours))
            theirs.close()
            try:
                ours.recv()  # a process that cannot start is no fault of the job's
                return process, ours
            except (EOFError, ConnectionError):
                continue
        raise RuntimeError(
            f"worker processes died {START_TRIES} times as they started: memory ran out, or something kills them"
        )

    def kill(self) -> None:
        """End the processes, at work or not; jobs that are running raise _ProcessDiedError."""
        with self._lock:
            self._is_closed = True
            for process, _ in self._all:
                process.kill()
        for process, pipe in self._all:
            process.join()
            pipe.close()


def _serve(pipe: Connection[Any, Any]) -> None:
    """Does the jobs that arrive until the pipe is closed."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    end_with_parent(parent.pid)
    allow_time_limit()
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
