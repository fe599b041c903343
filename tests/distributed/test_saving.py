"""item.checkpoint=auto over real ranks: all choose what the rank with least memory can do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks

from mlrec.runtime.distributed import start_world, stop_world
from mlrec.train import activation_memory


def choose(room_bytes: list[float]) -> dict[str, Any]:
    """Return the choice of a rank with its entry of `room_bytes`, for 100 items."""
    world = start_world()
    free_bytes = room_bytes[world.rank] * world.size / activation_memory.ACTIVATION_SHARE
    activation_memory.free_host_bytes = lambda: free_bytes  # type: ignore[assignment]
    choice = activation_memory.choose(10.0 - world.rank, 100, 0.0, world)
    stop_world()
    return asdict(choice)


@pytest.mark.parametrize(
    ("room_bytes", "recomputes"), [([5000.0, 2000.0], False), ([5000.0, 950.0], True)]
)
def test_choose_on_all_ranks_follows_the_rank_with_least_memory(
    room_bytes: list[float], recomputes: bool, tmp_path: Path
) -> None:
    expected = {
        "recomputes": recomputes,
        "items": 100,
        "item_bytes": 10.0,
        "room_bytes": min(room_bytes),
    }
    assert run_ranks(choose, 2, tmp_path, room_bytes) == [expected] * 2
