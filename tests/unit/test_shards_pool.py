import os
import time
from contextlib import closing

import pytest

from shards_tools.pool import map_ordered


def slow_square(number: int) -> int:
    time.sleep(0.02 * (number % 3))
    return number**2


def die_at_three(number: int) -> int:
    if number == 3:
        os._exit(9)
    return number


def refuse(number: int) -> int:
    raise ValueError(f"no {number}")


def test_results_come_in_order() -> None:
    assert list(map_ordered(slow_square, range(30), workers=2)) == [number**2 for number in range(30)]


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken = []

    def jobs() -> object:
        for number in range(1000):
            taken.append(number)
            yield number

    with closing(map_ordered(slow_square, jobs(), workers=1)) as results:  # type: ignore[arg-type]
        next(results)
    assert len(taken) < 10


def test_a_worker_that_dies_is_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match=r"a worker process died .*memory ran out, or a decoder crashed"):
        list(map_ordered(die_at_three, range(10), workers=1))


def test_an_error_of_a_job_is_raised() -> None:
    with pytest.raises(ValueError, match="no 0"):
        list(map_ordered(refuse, range(10), workers=1))
