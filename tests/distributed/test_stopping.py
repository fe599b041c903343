"""A stop signal on one rank stops all ranks after the same step."""

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


def steps_until_stop(signalled_rank: int, signalled_after: int) -> list[int]:
    """Return the signal agreed on after each of six steps. Those of rank 1 take longer."""
    world = start_world()
    agreed = []
    with StopRequest(world) as stop:
        for step in range(6):
            time.sleep(0.05 * world.rank)
            if world.rank == signalled_rank and step == signalled_after:
                signal.raise_signal(signal.SIGTERM)
            agreed.append(stop.agreed())
    stop_world()
    return agreed


@pytest.mark.parametrize("signalled_rank", [0, 1])
def test_stop_request_signal_on_one_rank_stops_all_one_step_later(
    signalled_rank: int, tmp_path: Path
) -> None:
    expected = [0, 0, 0, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM]
    assert run_ranks(steps_until_stop, 2, tmp_path, signalled_rank, 2) == [expected, expected]


@pytest.fixture
def interrupt_handler() -> Iterator[Callable[..., object]]:
    """Install the handler of Ctrl-C, which background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_stop_request_on_one_rank_notes_the_first_signal(
    interrupt_handler: Callable[..., object],
) -> None:
    with StopRequest(World(0, 1, torch.device("cpu"), nodes=(1,))) as stop:
        assert stop.agreed() == 0
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert stop.agreed() == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) == interrupt_handler
