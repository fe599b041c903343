"""Jobs in processes: results come in order, and a process that dies costs at most its own job.

Few jobs are in flight, and no process outlives its parent. A job may end its process by
`mlrec.runtime.time_limit`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, NamedTuple, TypeVar

from shards_tools.pack.processes import ProcessDiedError, Processes

Job = TypeVar("Job")
Result = TypeVar("Result")

JOBS_PER_WORKER = 4
"""Jobs in flight; more would only hold more finished results in memory."""


def map_ordered(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    crashed: Callable[[Job, bool], Result] | None = None,
) -> Generator[Result, None, None]:
    """Yield `function` of each job in the order of `jobs`, computed in processes.

    Close the generator to stop early. A job whose process dies (killed, out of memory, a crash in a
    decoder) runs once more, with no other at the same time. A job that exceeds its time limit does
    not.

    Args:
        crashed: Returns the result of a job whose process died twice (False) or exceeded its time
            limit (True).

    Raises:
        RuntimeError: a job's process died twice and there is no `crashed`, or processes die as they
            start. Exception: any error that `function` raised.
    """
    queue = _Queue(function, workers, crashed)
    try:
        for job in jobs:
            queue.submit(job)
            # jobs may be an endless generator: it is read no further than results are taken
            if queue.is_full:
                yield queue.next_result()
        while queue.pending:
            yield queue.next_result()
    finally:
        queue.close()


class _Pending(NamedTuple, Generic[Job, Result]):
    """A job in flight."""

    job: Job
    future: Future[Result]


class _Queue(Generic[Job, Result]):
    """The jobs in flight, whose results are taken in order."""

    def __init__(
        self,
        function: Callable[[Job], Result],
        workers: int,
        crashed: Callable[[Job, bool], Result] | None,
    ) -> None:
        self._function = function
        self._crashed = crashed
        self._max_pending = JOBS_PER_WORKER * workers
        self._processes = Processes()
        # one thread per process: it waits for its process while the process works
        self._threads = ThreadPoolExecutor(workers)
        self.pending: deque[_Pending[Job, Result]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether a result must be taken before the next job."""
        return len(self.pending) == self._max_pending

    def submit(self, job: Job) -> None:
        """Start a job as soon as a process is free."""
        self.pending.append(_Pending(job, self._start(job)))

    def next_result(self) -> Result:
        """Return the result of the oldest job."""
        job, future = self.pending[0]
        try:
            result = future.result()
        except ProcessDiedError as error:
            result = self._give_up(job, error) if error.is_timeout else self._retry_alone(job)
        # Only now: a retry waits for all pending jobs, and this one is done.
        self.pending.popleft()
        return result

    def close(self) -> None:
        """End the processes and threads."""
        # processes first: a thread waits for its job, which may take until its time limit
        self._processes.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start(self, job: Job) -> Future[Result]:
        return self._threads.submit(self._processes.run, self._function, job)

    def _retry_alone(self, job: Job) -> Result:
        # Alone, because memory may have run out, and so that another job's crash costs nothing
        # here.
        wait([pending.future for pending in self.pending])
        try:
            return self._start(job).result()
        except ProcessDiedError as error:
            return self._give_up(job, error)

    def _give_up(self, job: Job, error: ProcessDiedError) -> Result:
        """Return the result that `crashed` names.

        Raises:
            RuntimeError: there is no `crashed`.
        """
        if self._crashed is not None:
            return self._crashed(job, error.is_timeout)
        if error.is_timeout:
            raise RuntimeError(f"a worker process exceeded its time limit at {job}") from error
        raise RuntimeError(
            f"a worker process died twice at {job}: memory ran out, or a library crashed. "
            "Try fewer --workers"
        ) from error
