"""Choose item.chunk and item.checkpoint from the encoders' cost and the free memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mlrec.config import Config
from mlrec.models.formulas import ACTIVATION_SHARE, chunk_size, held_chunks, nominal_rates
from mlrec.models.pass_cost import Rates, TowerCost
from mlrec.models.simulation import tower_cost
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World, max_over_ranks
from mlrec.runtime.hardware import free_host_bytes
from mlrec.runtime.printable import counted


@dataclass(frozen=True)
class ChunkChoice:
    """How a rank's items of a step are encoded, and why. Its fields are in a run's record."""

    chunk: int
    """Items encoded at a time."""
    chunks: int
    """Chunks of the largest step."""
    held_chunks: int
    """Chunks whose activations are held for the backward pass, the last ones. Those of the others
    are recomputed."""
    items: int
    """Largest number of items of a rank in a step."""
    item_bytes: float
    """Size of one item's activations (bytes)."""
    room_bytes: float
    """Memory for activations on the rank that has least (bytes)."""

    @property
    def recomputes(self) -> bool:
        """Whether a chunk's activations are recomputed for its backward pass."""
        return self.held_chunks < self.chunks

    def in_words(self) -> str:
        """Return the choice and its numbers, as a clause to append after a semicolon."""
        if not self.recomputes:
            held = "are held for the backward pass"
        elif not self.held_chunks:
            held = "are recomputed in each chunk's backward pass"
        else:
            held = (
                f"of {self.held_chunks} of {self.chunks} chunks are held, those of the others are "
                "recomputed"
            )
        needed_gb = self.items * self.item_bytes / 1e9
        room_gb = max(0.0, self.room_bytes) / 1e9
        return (
            f"; chunks of {counted(self.chunk, 'item')}, whose activations {held}: "
            f"{self.item_bytes / 1e6:,.2f} MB per item, {needed_gb:,.2f} GB for the "
            f"{counted(self.items, 'item')} of a rank and step, room for {room_gb:,.2f} GB"
        )


def room_for_activations(coming_bytes: float, world: World) -> float:
    """Return the memory for activations on the rank that has least (bytes); collective.

    Args:
        coming_bytes: memory of this rank that the run will take for other purposes.
    """
    room_bytes = ACTIVATION_SHARE * (_free_bytes(world) - coming_bytes)
    negative_room = torch.tensor([-room_bytes], dtype=torch.float64, device=world.device)
    return -float(max_over_ranks(negative_room))


def choose(
    config: Config,
    cost: TowerCost,
    items: int,
    room_bytes: float,
    rates: Rates,
) -> ChunkChoice:
    """Return the chunk size and the number of held chunks that `config` asks for.

    All ranks choose alike, because they pass the same numbers.

    Args:
        items: the largest number of items of a rank in a step.
        room_bytes: memory for activations on the rank that has least.
        rates: of the device, nominal ones.
    """
    chunk = config.item.chunk
    if chunk == "auto":
        chunk = chunk_size(cost, rates, room_bytes)
    num_chunks = max(1, -(-items // chunk))
    held = {"always": 0, "never": num_chunks}.get(config.item.checkpoint)
    if held is None:
        # Chunks have nearly equal sizes.
        largest = -(-items // num_chunks)
        held = held_chunks(cost, largest, num_chunks, room_bytes)
    item_bytes = cost.saved_bytes(chunk) / chunk
    return ChunkChoice(chunk, num_chunks, held, items, item_bytes, room_bytes)


def choose_for_ranking(config: Config, tower: ItemTower, world: World) -> None:
    """Let a tower that is not going to be trained encode as item.chunk says; collective."""
    if config.item.chunk != "auto":
        return
    cost = tower_cost(tower, torch.float32)
    rates = nominal_rates(world.device, "fp32")
    tower.chunk = chunk_size(cost, rates, room_for_activations(0.0, world))


def apply(choice: ChunkChoice, tower: ItemTower) -> None:
    """Let the tower encode as chosen."""
    tower.chunk = choice.chunk
    tower.held_chunks = choice.held_chunks if choice.recomputes else None


def _free_bytes(world: World) -> float:
    """Return the free memory of this rank's device, or its share of the machine's memory."""
    if world.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(world.device)
        # torch's allocator has memory in reserve that the device counts as used
        reserved = torch.cuda.memory_reserved(world.device)
        return float(free + reserved - torch.cuda.memory_allocated(world.device))
    return free_host_bytes() / _ranks_on_this_node(world)


def _ranks_on_this_node(world: World) -> int:
    end = 0
    for ranks in world.nodes:
        end += ranks
        if world.rank < end:
            return ranks
    raise AssertionError(f"rank {world.rank} is on none of the nodes {world.nodes}")
