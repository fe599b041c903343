"""The pool: order of results, retries, and processes that die or cannot start."""

import multiprocessing
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from shards_tools.pack.pool import map_ordered


# Jobs are functions of this module, because the processes are spawned and import them by name.
def slow_square(number: int) -> int:
    # jobs finish in another order than they start in
    time.sleep(0.02 * (number % 3))
    return number**2


def die_at_three(number: int) -> int:
    if number == 3:
        # as the out-of-memory killer does: no exception, no exit handler
        os._exit(9)
    return number


def time_unless_killed(job: tuple[int, Path]) -> tuple[int, float, float]:
    """Return the number with the start and end of its job. Number 4 is killed the first time."""
    number, folder = job
    begin = time.monotonic()
    time.sleep(0.05)
    if number == 4 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number, begin, time.monotonic()


def ignore_crash(number: int, is_timeout: bool) -> int:
    return number


def refuse(number: int) -> int:
    raise ValueError(f"no {number}")


def test_map_ordered_slow_jobs_yields_results_in_order() -> None:
    squares = [number**2 for number in range(30)]
    assert list(map_ordered(slow_square, range(30), workers=2)) == squares


def test_map_ordered_endless_jobs_takes_few_ahead() -> None:
    taken_numbers = []

    def jobs() -> object:
        for number in range(1000):
            taken_numbers.append(number)
            yield number

    # closing, so that the worker ends before the test does
    with closing(map_ordered(slow_square, jobs(), workers=1)) as results:  # type: ignore[arg-type]
        next(results)
    # 4 jobs in flight per worker, and a few that are being handed over
    assert len(taken_numbers) < 10


def test_map_ordered_job_that_kills_its_worker_twice_raises() -> None:
    with pytest.raises(
        RuntimeError, match="a worker process died twice at 3: memory ran out, or a library crashed"
    ):
        list(map_ordered(die_at_three, range(10), workers=1))


@pytest.mark.parametrize("workers", [1, 3])
def test_map_ordered_crashed_job_has_the_result_of_the_callback(workers: int) -> None:
    def negate(number: int, is_timeout: bool) -> int:
        return -number

    expected = list(range(20))
    expected[3] = -3
    assert list(map_ordered(die_at_three, range(20), workers, crashed=negate)) == expected


def test_map_ordered_worker_died_retries_its_job_alone(tmp_path: Path) -> None:
    jobs = [(number, tmp_path) for number in range(12)]
    results = list(map_ordered(time_unless_killed, jobs, workers=3))
    assert [number for number, _, _ in results] == list(range(12))
    _, begin, end = results[4]
    for number, other_begin, other_end in results:
        # no other job overlaps with the retry
        assert number == 4 or other_end < begin or other_begin > end


def test_map_ordered_workers_that_cannot_start_raises() -> None:
    # the workers end with an error at once
    multiprocessing.set_executable("/bin/false")
    try:
        with pytest.raises(RuntimeError, match="worker processes died 3 times as they started"):
            list(map_ordered(slow_square, range(3), workers=1, crashed=ignore_crash))
    finally:
        multiprocessing.set_executable(sys.executable)


def test_map_ordered_job_that_raises_raises_its_error() -> None:
    with pytest.raises(ValueError, match="no 0"):
        list(map_ordered(refuse, range(10), workers=1))


class ClientError(Exception):
    """An error that cannot be unpickled, because its arguments are not those of Exception."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{words} ({code})")


def raise_client_error(number: int) -> int:
    raise ClientError(number, "slow down")


def test_map_ordered_unpicklable_error_raises_its_text() -> None:
    with pytest.raises(RuntimeError, match=r"ClientError: slow down \(7\)"):
        list(map_ordered(raise_client_error, [7], workers=1))
