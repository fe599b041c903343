"""Worker processes: one for each thread that runs jobs.

When a process dies, exactly one job was at work in it. Processes talk over pipes alone, because
locks that several processes share would outlive a parent that is killed.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple, TypeVar, cast

from mlrec.runtime.ending import end_with_parent
from mlrec.runtime.time_limit import allow_time_limit

Job = TypeVar("Job")
Result = TypeVar("Result")

MAX_STARTS = 3
"""Number of processes that may die as they start before the pool gives up."""
EXIT_GRACE_S = 5.0
"""Seconds for a process that closed its pipe to end by itself."""


class ProcessDiedError(Exception):
    """The process that was at work on a job is gone."""

    def __init__(self, is_timeout: bool) -> None:
        super().__init__(is_timeout)
        self.is_timeout = is_timeout
        """Whether its time limit ended it."""


class _Worker(NamedTuple):
    """A process and the pipe to it."""

    process: SpawnProcess
    pipe: Connection[Any, Any]


class _Answer(NamedTuple):
    """A process's answer to a job."""

    succeeded: bool
    result: Any
    """The result, or the exception."""


class Processes:
    """The processes of all threads of a pool."""

    def __init__(self) -> None:
        self._mine = threading.local()
        """Its attribute `worker` is the calling thread's process."""
        self._all: list[_Worker] = []
        self._lock = threading.Lock()
        """Guards `_all` and `_is_closed`, so that no process starts after `kill`."""
        self._is_closed = False

    def run(self, function: Callable[[Job], Result], job: Job) -> Result:
        """Return `function` of `job`, computed in the calling thread's process.

        Raises:
            ProcessDiedError: the process died; the next job gets a new one.
            Exception: any error that `function` raised.
        """
        if getattr(self._mine, "worker", None) is None:
            self._mine.worker = self._start()
        worker: _Worker = self._mine.worker
        try:
            worker.pipe.send((function, job))
            answer: _Answer = worker.pipe.recv()
        except (EOFError, OSError) as error:
            self._mine.worker = None
            worker.process.join(EXIT_GRACE_S)
            worker.process.kill()
            is_timeout = worker.process.exitcode == -signal.SIGALRM
            raise ProcessDiedError(is_timeout) from error
        # raised outside the try: an OSError of the job must not look like a dead process
        if not answer.succeeded:
            raise answer.result
        return cast(Result, answer.result)

    def kill(self) -> None:
        """End all processes, idle or not. Jobs that are running raise ProcessDiedError."""
        with self._lock:
            self._is_closed = True
            for worker in self._all:
                worker.process.kill()
        for worker in self._all:
            worker.process.join()
            worker.pipe.close()

    def _start(self) -> _Worker:
        """Return a process that is ready for jobs.

        Raises:
            ProcessDiedError: the pool was closed meanwhile.
            RuntimeError: processes die as they start.
        """
        for _ in range(MAX_STARTS):
            worker = self._launch()
            try:
                # a process that cannot start is no fault of the job's
                worker.pipe.recv()
                return worker
            except (EOFError, ConnectionError):
                continue
        raise RuntimeError(
            f"worker processes died {MAX_STARTS} times as they started: "
            "memory ran out, or something kills them"
        )

    def _launch(self) -> _Worker:
        """Return a process that was just started."""
        # spawned, not forked: the parent has threads, also those of a storage client
        context = multiprocessing.get_context("spawn")
        # before the interrupt is delayed: the start of the tracker would end the delay
        resource_tracker.ensure_running()
        parent_end, child_end = context.Pipe()
        process = context.Process(target=_serve, args=(child_end,), daemon=True)
        worker = _Worker(process, parent_end)
        with self._lock:
            if self._is_closed:
                raise ProcessDiedError(is_timeout=False)
            with _delay_interrupt():
                process.start()
            self._all.append(worker)
        # the child holds the only open end now, so that its death closes the pipe
        child_end.close()
        return worker


def _serve(pipe: Connection[Any, Any]) -> None:
    """Answer the jobs that arrive until the pipe is closed."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    # first, because the parent may be killed at any time from here on
    end_with_parent(parent.pid)
    allow_time_limit()
    try:
        pipe.send(None)
        while True:
            function, job = pipe.recv()
            pipe.send(_answer(function, job))
    except (EOFError, ConnectionError):
        # the parent is gone
        return


def _answer(function: Callable[[Any], Any], job: Any) -> _Answer:
    try:
        return _Answer(True, function(job))
    except Exception as error:
        # the parent raises it where the result is awaited
        return _Answer(False, _as_picklable(error))


def _as_picklable(error: Exception) -> Exception:
    """Return the error, or its text where it cannot be pickled.

    Exceptions of client libraries may hold anything.
    """
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _delay_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back for a while.

    A process that is started meanwhile inherits the mask. It never sees Ctrl-C, and leaves it to
    its parent.
    """
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
