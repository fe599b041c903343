"""Simulate a forward and backward pass on tensors without values, for what it would cost.

The simulation runs the model's own code on the meta device. It takes a second, no weights and no
memory, and tells for each kernel how many operations and bytes it takes, and for each moment how
many bytes are alive. Both are exact but for what a device's library chooses itself: workspaces of
convolutions, and a CPU's reordered copies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from mlrec.data.decoders import DECODERS
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.batchnorm import repeated
from mlrec.models.encoders.id import EmbeddingTable
from mlrec.models.pass_cost import PassCost, TowerCost
from mlrec.models.pass_recorder import record_pass
from mlrec.models.random_media import random_media
from mlrec.models.tower import ItemTower
from mlrec.models.trial import without_values

META = torch.device("meta")
SIMULATED_ITEMS = (8, 16)
"""Sizes of the two chunks that are simulated."""
TRIED_ITEMS = (2, 4)
"""Sizes of the two chunks that are encoded where a simulation is not possible."""
MAX_TRIED_WEIGHTS = 4_000_000
"""Weights of tables of ids below which they are tried instead of simulated."""


def simulate_tower(
    tower: ItemTower, items: int, dtype: torch.dtype, sharded: Collection[nn.Module] = ()
) -> PassCost:
    """Return the cost of encoding `items` items at once, all stages, on some device.

    Args:
        tower: on any device; it is left as it was.
        items: at least 2, because a single item has no variance that batch norms normalize by.
        dtype: of parameters in training.
        sharded: encoders of the tower whose tables of ids the ranks share by rows. Only a chunk's
            rows have a gradient.
    """
    with _without_cache(tower):
        copied = as_trained_without_values(tower, dtype)
    assert isinstance(copied, ItemTower)
    for encoder, double in zip(tower.encoders, copied.encoders, strict=True):
        if encoder in sharded:
            assert isinstance(double, EmbeddingTable)
            rows = torch.empty(items, double.width, dtype=dtype, device=META)
            double.embedding.weight = nn.Parameter(rows)

    def forward() -> torch.Tensor:
        media = {}
        for spec in copied.specs:
            media[spec] = media_without_values(spec, items)
        with copied.drawing(torch.empty(items, dtype=torch.int64, device=META)):
            vectors: torch.Tensor = copied(media)
        return vectors

    return record_pass(forward, copied, items)


def as_trained_without_values(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy on the meta device, in training mode and with parameters of this dtype."""
    copied = without_values(module)
    for original, parameter in zip(module.parameters(), copied.parameters(), strict=True):
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(original.requires_grad)
    return copied.train()


def _try_tower(tower: ItemTower, items: int, dtype: torch.dtype) -> PassCost:
    """Return the cost of encoding random items, with the tower's own weights and in their dtype."""
    is_training = tower.training
    # Encoders with a frozen prefix may be on the device already, and the rest on the host.
    devices = {parameter.device for parameter in tower.parameters()}
    device = max(devices, key=lambda device: device.type != "cpu")
    tower.to(device).train()

    def forward() -> torch.Tensor:
        media = {}
        for spec in tower.specs:
            is_id = spec.modality is Modality.ID
            inputs = torch.arange(1, items + 1) if is_id else random_media(spec, items)
            media[spec] = inputs.to(device)
        with tower.drawing(torch.arange(items, device=device)):
            vectors: torch.Tensor = tower(media)
        return vectors

    # Batch norms must not count these items.
    with repeated(tower.encoders):
        cost = record_pass(forward, tower, items)
    tower.train(is_training)
    share = dtype.itemsize / next(tower.parameters()).dtype.itemsize
    return replace(
        cost,
        saved_bytes=int(share * cost.saved_bytes),
        peak_bytes=int(share * cost.peak_bytes),
    )


def tower_cost(
    tower: ItemTower, dtype: torch.dtype, sharded: Collection[nn.Module] = ()
) -> TowerCost:
    """Return the cost of the tower's chunks.

    Where an encoder reads values, which the meta device lacks, it encodes random items instead.

    Args:
        tower: on any device; it is left as it was.
        dtype: of parameters in training.
        sharded: as in simulate_tower.
    """
    if sharded or not _is_small_table(tower):
        try:
            small, large = (simulate_tower(tower, n, dtype, sharded) for n in SIMULATED_ITEMS)
            return TowerCost(small, large)
        except (NotImplementedError, RuntimeError):
            pass  # an operation that torch has for real tensors only
    return TowerCost(*[_try_tower(tower, items, dtype) for items in TRIED_ITEMS])


def _is_small_table(tower: ItemTower) -> bool:
    """Return whether trying the tower is cheaper than a simulation, which imports torch._dynamo in
    1.2 CPU seconds."""
    num_weights = sum(parameter.numel() for parameter in tower.parameters())
    is_table = all(spec.modality is Modality.ID for spec in tower.specs)
    return is_table and num_weights < MAX_TRIED_WEIGHTS


@contextmanager
def _without_cache(tower: ItemTower) -> Iterator[None]:
    """Take the activation cache, which is large, off the tower within the context."""
    cache = tower.activation_cache
    tower.activation_cache = None
    try:
        yield
    finally:
        tower.activation_cache = cache


def media_without_values(spec: InputSpec, count: int) -> torch.Tensor:
    """Return media of `count` items on the meta device, in the encoder's shape and dtype."""
    decoder = DECODERS[spec.modality]
    return torch.empty((count, *decoder.shape(spec)), dtype=decoder.dtype, device=META)
