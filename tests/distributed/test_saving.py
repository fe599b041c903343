"""item.checkpoint=auto over real ranks: all do the same, which the one with the least memory can."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks

from mlrec.runtime.distributed import start_world, stop_world
from mlrec.train import activation_memory as saving


def choose(room_bytes: list[float]) -> dict[str, Any]:
    """What a rank chooses that finds its part of `room_bytes`, for 100 items that it has measured at 9 or 10 bytes."""
    world = start_world()
    saving.free_host_bytes = lambda: room_bytes[world.rank] * world.size / saving.ACTIVATION_SHARE  # type: ignore[assignment]
    found = saving.choose(10.0 - world.rank, 100, 0.0, world)
    stop_world()
    return asdict(found)


@pytest.mark.parametrize(
    ("room_bytes", "recomputes"), [([5000.0, 2000.0], False), ([5000.0, 950.0], True)]
)
def test_all_ranks_do_what_the_one_with_least_memory_can(
    room_bytes: list[float], recomputes: bool, tmp_path: Path
) -> None:
    expected = {
        "recomputes": recomputes,
        "items": 100,
        "item_bytes": 10.0,
        "room_bytes": min(room_bytes),
    }
    assert run_ranks(choose, 2, tmp_path, room_bytes) == [expected] * 2
