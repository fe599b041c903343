"""item.checkpoint=auto over real ranks: all choose what the rank with least memory can do."""

from __future__ import annotations

from pathlib import Path

import pytest
from ranks import run_ranks

from mlrec.models import chunk_choice
from mlrec.models.formulas import ACTIVATION_SHARE
from mlrec.runtime.distributed import start_world, stop_world


def room(room_bytes: list[float]) -> float:
    """Return the room that a rank with its entry of `room_bytes` agrees on."""
    world = start_world()
    free_bytes = room_bytes[world.rank] * world.size / ACTIVATION_SHARE
    chunk_choice.free_host_bytes = lambda: free_bytes  # type: ignore[assignment]
    agreed_bytes = chunk_choice.room_for_activations(0.0, world)
    stop_world()
    return agreed_bytes


@pytest.mark.parametrize("room_bytes", [[5000.0, 2000.0], [950.0, 5000.0]])
def test_room_on_all_ranks_is_that_of_the_rank_with_least_memory(
    room_bytes: list[float], tmp_path: Path
) -> None:
    assert run_ranks(room, 2, tmp_path, room_bytes) == [min(room_bytes)] * 2
