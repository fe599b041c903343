import multiprocessing
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from shards_tools.pack.pool import map_ordered


def slow_square(number: int) -> int:
    time.sleep(0.02 * (number % 3))
    return number**2


def die_at_three(number: int) -> int:
    if number == 3:
        os._exit(9)
    return number


def time_unless_killed(job: tuple[int, Path]) -> tuple[int, float, float]:
    """When the job ran; the first time, number 4 is killed."""
    number, folder = job
    begin = time.monotonic()
    time.sleep(0.05)
    if number == 4 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number, begin, time.monotonic()


def refuse(number: int) -> int:
    raise ValueError(f"no {number}")


def test_results_come_in_order() -> None:
    assert list(map_ordered(slow_square, range(30), workers=2)) == [
        number**2 for number in range(30)
    ]


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken = []

    def jobs() -> object:
        for number in range(1000):
            taken.append(number)
            yield number

    with closing(map_ordered(slow_square, jobs(), workers=1)) as results:  # type: ignore[arg-type]
        next(results)
    assert len(taken) < 10


def test_a_job_that_kills_its_worker_twice_is_a_clear_error() -> None:
    with pytest.raises(
        RuntimeError, match="a worker process died twice at 3: memory ran out, or a library crashed"
    ):
        list(map_ordered(die_at_three, range(10), workers=1))


@pytest.mark.parametrize("workers", [1, 3])
def test_or_else_has_the_result_that_the_caller_names_and_the_others_theirs(workers: int) -> None:
    results = list(
        map_ordered(die_at_three, range(20), workers, crashed=lambda number, is_timeout: -number)
    )
    assert results == [-number if number == 3 else number for number in range(20)]


def test_a_job_whose_worker_died_is_done_again_alone(tmp_path: Path) -> None:
    jobs = [(number, tmp_path) for number in range(12)]
    results = list(map_ordered(time_unless_killed, jobs, workers=3))
    assert [number for number, _, _ in results] == list(range(12))
    _, begin, end = results[4]
    assert all(
        other_end < begin or other_begin > end
        for number, other_begin, other_end in results
        if number != 4
    )


def test_workers_that_cannot_start_are_no_fault_of_the_jobs() -> None:
    multiprocessing.set_executable("/bin/false")
    try:
        with pytest.raises(RuntimeError, match="worker processes died 3 times as they started"):
            list(
                map_ordered(
                    slow_square, range(3), workers=1, crashed=lambda number, is_timeout: number
                )
            )
    finally:
        multiprocessing.set_executable(sys.executable)


def test_an_error_of_a_job_is_raised() -> None:
    with pytest.raises(ValueError, match="no 0"):
        list(map_ordered(refuse, range(10), workers=1))


class ClientError(Exception):
    """Cannot be sent: it is made with more than its words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{words} ({code})")


def refuse_as_a_client_does(number: int) -> int:
    raise ClientError(number, "slow down")


def test_an_error_that_cannot_be_sent_is_raised_in_its_words() -> None:
    with pytest.raises(RuntimeError, match=r"ClientError: slow down \(7\)"):
        list(map_ordered(refuse_as_a_client_does, [7], workers=1))
