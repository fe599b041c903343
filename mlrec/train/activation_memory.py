"""Whether a step holds the activations of all its items for the backward pass, or computes those of each chunk again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch.autograd.graph import saved_tensors_hooks

from mlrec.data.schema import Modality
from mlrec.models.batchnorm import repeated
from mlrec.models.random_media import random_media
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World, max_over_ranks
from mlrec.runtime.hardware import free_host_bytes

SHARE = 0.5
"""Of the free memory, for activations: the rest is for the recommender, the backward's own tensors and fragmentation."""
STATE_BYTES = 12
"""Of a trained parameter, that come with the first step: its gradient and AdamW's two moments in fp32, as without ZeRO."""


@dataclass(frozen=True)
class Saving:
    """What item.checkpoint=auto chose, and what of."""

    recomputes: bool
    """Whether a chunk's activations are computed again."""
    items: int
    """The most of a rank in a step."""
    item_bytes: float
    """Of one item's activations."""
    room_bytes: float
    """For the activations of a rank: of the rank that has least."""

    def in_words(self) -> str:
        """The choice and its numbers, in words behind a semicolon."""
        done = (
            "are computed again in each chunk's backward"
            if self.recomputes
            else "are held for the backward"
        )
        wanted, room = self.items * self.item_bytes / 1e9, max(0.0, self.room_bytes) / 1e9
        return (
            f"; activations {done}: {self.item_bytes / 1e6:,.2f} MB an item, {wanted:,.2f} GB for the {self.items:,} items of a "
            f"rank and step, room for {room:,.2f} GB"
        )


def saved_bytes(tower: ItemTower, device: torch.device, dtype: torch.dtype) -> float:
    """Bytes of activations that are held of an item between its forward and its backward: tried out on made-up items.

    Collective where batch norms are trained; before DeepSpeed has the model, which stays on the device.

    Args:
        dtype: of floating-point activations in training.
    """
    training = tower.training
    tower.to(device).train()
    with repeated(tower.encoders):
        two, three = (
            _held_of(tower, count, device, dtype) for count in (2, 3)
        )  # one alone has no variance to normalise by
    tower.train(training)
    return three - two  # parameters and tables of no item are in both


def _held_of(tower: ItemTower, count: int, device: torch.device, dtype: torch.dtype) -> float:
    media = {
        spec: (
            torch.arange(1, count + 1)
            if spec.modality is Modality.ID
            else random_media(spec, count)
        ).to(device)
        for spec in tower.specs
    }
    held: dict[int, tuple[torch.Tensor, float]] = {}

    def hold(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        share = dtype.itemsize / tensor.itemsize if tensor.is_floating_point() else 1.0
        held[storage.data_ptr()] = (
            tensor,
            storage.nbytes() * share,
        )  # with the tensor, or its memory would be another's soon

    def never(packed: None) -> torch.Tensor:
        raise AssertionError("there is no backward")

    keys = torch.arange(count, device=device)
    with torch.enable_grad(), saved_tensors_hooks(hold, never), tower.drawing(keys):
        tower(media)
    return sum(size for _, size in held.values())


def choose(item_bytes: float, items: int, coming_bytes: float, world: World) -> Saving:
    """To hold the activations if those of all items fit, on every rank; collective.

    Args:
        items: the most that a rank has in a step.
        coming_bytes: that the run will take of this rank's memory for other things.
    """
    room = SHARE * (_free_bytes(world) - coming_bytes)
    item_bytes, least = max_over_ranks(
        torch.tensor([item_bytes, -room], dtype=torch.float64, device=world.device)
    ).tolist()
    return Saving(items * item_bytes > -least, items, item_bytes, -least)


def _free_bytes(world: World) -> float:
    """What this rank may still take of its device, or of its share of the machine's memory."""
    if world.device.type == "cuda":
        unused = torch.cuda.memory_reserved(world.device) - torch.cuda.memory_allocated(
            world.device
        )
        return float(torch.cuda.mem_get_info(world.device)[0] + unused)
    ends = accumulate(world.nodes)
    return free_host_bytes() / next(
        ranks for ranks, end in zip(world.nodes, ends, strict=True) if world.rank < end
    )
