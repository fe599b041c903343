"""Choose between holding a step's activations and recomputing them in the backward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.autograd.graph import saved_tensors_hooks

from mlrec.data.schema import Modality
from mlrec.models.batchnorm import repeated
from mlrec.models.random_media import random_media
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World, max_over_ranks
from mlrec.runtime.hardware import free_host_bytes

ACTIVATION_SHARE = 0.5
"""Share of the free memory for activations. The rest is for the recommender, the backward pass's
own tensors and fragmentation."""
STATE_BYTES = 12
"""Memory that a trained parameter takes from the first step on (bytes): gradient and AdamW's two
moments in fp32, without ZeRO."""


@dataclass(frozen=True)
class Saving:
    """The choice that item.checkpoint=auto made, and its reasons."""

    recomputes: bool
    """Whether a chunk's activations are recomputed for its backward pass."""
    items: int
    """Largest number of items of a rank in a step."""
    item_bytes: float
    """Size of one item's activations (bytes)."""
    room_bytes: float
    """Memory for activations on the rank that has least (bytes)."""

    def in_words(self) -> str:
        """Return the choice and its numbers, as a clause to append after a semicolon."""
        choice = (
            "are recomputed in each chunk's backward pass"
            if self.recomputes
            else "are held for the backward pass"
        )
        needed_gb = self.items * self.item_bytes / 1e9
        room_gb = max(0.0, self.room_bytes) / 1e9
        return (
            f"; activations {choice}: {self.item_bytes / 1e6:,.2f} MB per item, "
            f"{needed_gb:,.2f} GB for the {self.items:,} items of a rank and step, "
            f"room for {room_gb:,.2f} GB"
        )


def saved_bytes(tower: ItemTower, device: torch.device, dtype: torch.dtype) -> float:
    """Return the size (bytes) of the activations that an item needs in its backward pass.

    It is measured on random items. Collective where batch norms are trained. Call it before
    DeepSpeed has the model, which stays on the device.

    Args:
        dtype: of floating-point activations in training.
    """
    training = tower.training
    tower.to(device).train()
    # The difference of two measurements leaves out parameters and tables, which are in both. A
    # single item has no variance that batch norms could normalize by.
    with repeated(tower.encoders):
        bytes_of_two = _held_bytes(tower, 2, device, dtype)
        bytes_of_three = _held_bytes(tower, 3, device, dtype)
    tower.train(training)
    return bytes_of_three - bytes_of_two


def _held_bytes(tower: ItemTower, count: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the size of all tensors that a forward pass of `count` items saves."""
    media = {}
    for spec in tower.specs:
        is_id = spec.modality is Modality.ID
        inputs = torch.arange(1, count + 1) if is_id else random_media(spec, count)
        media[spec] = inputs.to(device)
    sizes: dict[int, float] = {}
    # holds the tensors, for freed memory would be given to another tensor at the same address
    tensors: list[torch.Tensor] = []

    def hold(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        share = dtype.itemsize / tensor.itemsize if tensor.is_floating_point() else 1.0
        sizes[storage.data_ptr()] = storage.nbytes() * share
        tensors.append(tensor)

    def unpack(packed: None) -> torch.Tensor:
        raise AssertionError("there is no backward pass")

    keys = torch.arange(count, device=device)
    with torch.enable_grad(), saved_tensors_hooks(hold, unpack), tower.drawing(keys):
        tower(media)
    return sum(sizes.values())


def choose(item_bytes: float, items: int, coming_bytes: float, world: World) -> Saving:
    """Choose to hold the activations if those of all items fit on every rank; collective.

    Args:
        items: the largest number of items of a rank in a step.
        coming_bytes: memory of this rank that the run will take for other purposes.
    """
    room_bytes = ACTIVATION_SHARE * (_free_bytes(world) - coming_bytes)
    # All ranks decide by the same numbers: the largest item and the least room of any rank.
    own = torch.tensor([item_bytes, -room_bytes], dtype=torch.float64, device=world.device)
    largest_item_bytes, negative_room = max_over_ranks(own).tolist()
    least_room_bytes = -negative_room
    recomputes = items * largest_item_bytes > least_room_bytes
    return Saving(recomputes, items, largest_item_bytes, least_room_bytes)


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
