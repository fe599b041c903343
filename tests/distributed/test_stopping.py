"""Ranks that are told to stop at different times stop after the same step."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from ranks import run_ranks

from mlrec.runtime.distributed import World, start_world, stop_world
from mlrec.runtime.stop_request import StopRequest


def steps_until_stop(told_rank: int, told_after: int) -> list[int]:
    """The signals that were agreed on after each of six steps, of which rank 1's take longer."""
    world = start_world()
    agreed = []
    with StopRequest(world) as stop:
        for step in range(6):
            time.sleep(0.05 * world.rank)
            if world.rank == told_rank and step == told_after:
                signal.raise_signal(signal.SIGTERM)
            agreed.append(stop.agreed())
    stop_world()
    return agreed


@pytest.mark.parametrize("told_rank", [0, 1])
def test_all_ranks_stop_one_step_after_the_one_that_was_told(
    told_rank: int, tmp_path: Path
) -> None:
    expected = [0, 0, 0, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM]
    assert run_ranks(steps_until_stop, 2, tmp_path, told_rank, 2) == [expected, expected]


@pytest.fixture
def heeded() -> Iterator[Callable[..., object]]:
    """The handler of Ctrl-C, which a shell has its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_stop_request_on_one_rank_notes_the_first_signal(heeded: Callable[..., object]) -> None:
    with StopRequest(World(0, 1, torch.device("cpu"), nodes=(1,))) as stop:
        assert stop.agreed() == 0
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert stop.agreed() == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) == heeded
