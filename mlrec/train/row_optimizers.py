"""Train large tables of ids outside DeepSpeed: each rank holds and updates a part of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from mlrec.config import Config
from mlrec.models.building import training_dtype
from mlrec.models.encoders.id import IdEmbedding
from mlrec.models.encoders.sharded_table import ShardedTable
from mlrec.models.recommender import Recommender
from mlrec.runtime.distributed import World, sum_over_ranks
from mlrec.train import optim
from mlrec.train.row_adamw import RowAdamW


class RowOptimizers:
    """The optimizers of a model's sharded tables, which take their steps next to DeepSpeed's."""

    def __init__(self, optimizers: Mapping[str, RowAdamW], world: World, clip_norm: float) -> None:
        """
        Args:
            optimizers: by the name of the table's weight.
            clip_norm: as in optim.clip_norm.
        """
        self.world = world
        self.clip_norm = clip_norm
        self.norm = torch.zeros(())
        """Norm of the gradient of the step's rows over all ranks."""
        self._optimizers = tuple(optimizers.values())

    def set_learning_rates(self, factor: float) -> dict[str, float]:
        """Set the peak learning rates times `factor`, and return the rates by group."""
        rates: dict[str, float] = {}
        for optimizer in self._optimizers:
            rates |= optim.set_learning_rates(optimizer, factor)
        return rates

    def reduce_norm(self) -> None:
        """Compute `norm` after the backward pass; collective."""
        squares = [optimizer.squared_norm() for optimizer in self._optimizers]
        # Losses are scaled by the number of ranks, because DeepSpeed averages gradients over them.
        square = sum_over_ranks(torch.stack(squares).sum()) / self.world.size**2
        # As in zero_state.gradient_norm: infinite where the sum of squares overflows fp32.
        self.norm = square.float().sqrt()

    def step(self, norm: torch.Tensor | float) -> None:
        """Update the rows.

        Args:
            norm: of the gradient of all parameters, rows included, by which it is clipped.
        """
        # Numbers in host memory become arguments of the device's kernels, without a copy.
        factor = torch.tensor(1 / self.world.size)
        if self.clip_norm:
            # The formula of torch and DeepSpeed.
            clip = self.clip_norm / (torch.as_tensor(norm) + 1e-6)
            factor = factor * clip.clamp(max=1.0)
        for optimizer in self._optimizers:
            optimizer.step(factor)

    def release(self) -> None:
        """Forget the step's rows and their gradient."""
        for optimizer in self._optimizers:
            optimizer.table.release()


def shard_tables(
    model: Recommender,
    tables: dict[str, IdEmbedding],
    groups: Iterable[dict[str, Any]],
    config: Config,
    world: World,
) -> dict[str, RowAdamW]:
    """Replace whole tables by this rank's rows, and take their weights out of the groups.

    Args:
        tables: as large_tables.find_tables returns them.
        groups: parameter groups of the model, in place; they may be empty afterwards.
    """
    # Rows with their moments are the state that zero.offload_optimizer places in host memory.
    device = torch.device("cpu") if config.zero.offload_optimizer else world.device
    optimizers = {}
    for name, encoder in tables.items():
        weight = encoder.embedding.weight
        table = ShardedTable(weight, world, training_dtype(config), device)
        own_group = _take_out(weight, groups)
        betas = config.optim.betas
        optimizers[name] = RowAdamW(table, own_group, betas, config.optim.eps, config.train.ema > 0)
        encoder.embedding = table  # type: ignore[assignment]  # called alike
        model.tower.sharded_tables.append(table)
    return optimizers


def _take_out(weight: torch.Tensor, groups: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Remove a weight from its parameter group, and return the settings of the group."""
    for group in groups:
        remaining = [parameter for parameter in group["params"] if parameter is not weight]
        if len(remaining) < len(group["params"]):
            group["params"] = remaining
            return {key: value for key, value in group.items() if key != "params"}
    raise AssertionError("a trained weight is in no parameter group")
