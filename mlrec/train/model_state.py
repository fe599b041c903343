"""All tensors of a model in training: what a checkpoint holds and restores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlrec.models.recommender import Recommender
from mlrec.runs import checkpoint
from mlrec.train import zero_state
from mlrec.train.row_adamw import WEIGHT, RowAdamW


@dataclass(frozen=True)
class ModelState:
    """A model, and the optimizers with its fp32 weights and moments; calls are collective."""

    model: Recommender
    trained: dict[str, nn.Parameter]
    """Trained parameters by their names in the model."""
    zero_optimizer: Any = None
    """DeepSpeed's optimizer, which partitions the state; None if nothing is trained."""
    base_optimizer: Any = None
    """AdamW that DeepSpeed wraps; None if nothing is trained."""
    has_averages: bool = False
    """Whether moving averages of the weights are kept (train.ema)."""
    tables: Mapping[str, RowAdamW] = field(default_factory=dict)
    """Optimizers of the sharded tables by the names of their weights, which are not in `trained`.
    """

    def tensors(self) -> Iterator[tuple[int, str, torch.Tensor]]:
        """Yield index, name and full fp32 tensor of each weight and moment.

        With train.ema, weights are their averages, and raw weights come in addition. Every rank
        gets all tensors in the same order, because gathering a tensor is collective.
        """
        zero_state.link_state(self.zero_optimizer)
        parameters = dict(self.model.named_parameters())
        own_state = self.model.state_dict(keep_vars=True)
        for index, (name, value) in enumerate(own_state.items()):
            weight_name = f"{checkpoint.WEIGHT}{name}"
            if name not in parameters:  # a buffer, which no optimizer holds
                yield index, weight_name, value
                continue
            weight = zero_state.get_weight(value)
            if name not in self.trained:
                yield index, weight_name, weight
                continue
            if self.has_averages:
                yield index, f"{checkpoint.RAW_WEIGHT}{name}", weight
                weight = zero_state.get_moment(self.base_optimizer, value, zero_state.AVERAGE)
            yield index, weight_name, weight
            for moment in zero_state.MOMENTS:
                moment_value = zero_state.get_moment(self.base_optimizer, value, moment)
                yield index, f"{moment}/{name}", moment_value
        for index, (name, rows) in enumerate(self.tables.items(), start=len(own_state)):
            if self.has_averages:
                yield index, f"{checkpoint.RAW_WEIGHT}{name}", rows.gather(WEIGHT)
            kind = zero_state.AVERAGE if self.has_averages else WEIGHT
            yield index, f"{checkpoint.WEIGHT}{name}", rows.gather(kind)
            for moment in zero_state.MOMENTS:
                yield index, f"{moment}/{name}", rows.gather(moment)

    def create_moments(self, steps: int) -> None:
        """Create zero moments, as after `steps` updates: DeepSpeed has none before the first."""
        zero_state.create_state(self.zero_optimizer, self.base_optimizer, steps)
        if self.has_averages:
            zero_state.create_averages(self.zero_optimizer, self.base_optimizer)
        for rows in self.tables.values():
            rows.restart(steps)

    def update_averages(self, decay: float) -> None:
        """Move the averages towards the current weights, by the share 1 - decay of the way."""
        zero_state.update_averages(self.zero_optimizer, self.base_optimizer, decay)
        for rows in self.tables.values():
            rows.update_averages(decay)

    @contextmanager
    def ready_to_evaluate(self) -> Iterator[None]:
        """Let the model hold whole tables and the averaged weights in a block; collective.

        Afterwards it has the same weights as before, bit by bit.
        """
        for rows in self.tables.values():
            rows.table.whole = rows.gather(zero_state.AVERAGE if self.has_averages else WEIGHT)
        try:
            with self._averaged():
                yield
        finally:
            for rows in self.tables.values():
                rows.table.whole = None

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let DeepSpeed's parameters hold their averages in a block, if there are any."""
        if not self.has_averages:
            yield
            return
        zero_state.link_state(self.zero_optimizer)
        raw_weights = {}
        for name, parameter in self.trained.items():
            average = zero_state.get_moment(self.base_optimizer, parameter, zero_state.AVERAGE)
            values = zero_state.own_values(parameter)
            # In host memory, so that an evaluation needs no more of the GPU's.
            raw_weights[name] = values.to("cpu", copy=True)
            values.copy_(zero_state.own_part(parameter, average))
        zero_state.release_gathered(self.zero_optimizer)
        try:
            yield
        finally:
            for name, parameter in self.trained.items():
                zero_state.own_values(parameter).copy_(raw_weights[name])
            zero_state.release_gathered(self.zero_optimizer)

    def restore_optimizer(
        self, path: Path, updates: int, force: bool, device: torch.device
    ) -> None:
        """Load the optimizer's weights and moments, and the averages, from a checkpoint.

        The model's own weights were loaded before DeepSpeed took the model.

        Args:
            updates: steps of the checkpoint's run that were not skipped.
            force: resume.force, with which other parameters may be trained now than then.
        """
        self.create_moments(updates)
        for name, weight in checkpoint.read_tensors(path, checkpoint.WEIGHT):
            if name in self.trained:
                self._restore_weight(self.trained[name], weight.to(device))
            elif name in self.tables:
                self.tables[name].load(WEIGHT, weight)
                if self.has_averages:
                    self.tables[name].load(zero_state.AVERAGE, weight)
        # Last, because the weights above are averages if the checkpoint has raw ones.
        for name, weight in checkpoint.read_tensors(path, checkpoint.RAW_WEIGHT):
            if name in self.trained:
                zero_state.set_weight(self.trained[name], weight.to(device))
            elif name in self.tables:
                self.tables[name].load(WEIGHT, weight)
        shapes = self._full_shapes()
        for moment in zero_state.MOMENTS:
            for name, value in checkpoint.read_moments(path, moment, shapes, force):
                if name in self.tables:
                    self.tables[name].load(moment, value)
                    continue
                parameter = self.trained[name]
                zero_state.set_moment(self.base_optimizer, parameter, moment, value.to(device))

    def _restore_weight(self, parameter: nn.Parameter, weight: torch.Tensor) -> None:
        zero_state.set_weight(parameter, weight)
        if self.has_averages:
            zero_state.set_moment(self.base_optimizer, parameter, zero_state.AVERAGE, weight)

    def _full_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the trained parameters, also where ZeRO-3 has partitioned them."""
        shapes = {name: tuple(getattr(p, "ds_shape", p.shape)) for name, p in self.trained.items()}
        return shapes | {name: rows.table.shape for name, rows in self.tables.items()}

    def parameter_counts(self) -> dict[str, int]:
        """Return the numbers of trained and of all parameters."""
        trained = sum(full_size(parameter) for parameter in self.trained.values())
        total = sum(full_size(parameter) for parameter in self.model.parameters())
        in_tables = sum(math.prod(rows.table.shape) for rows in self.tables.values())
        return {"trained": trained + in_tables, "total": total + in_tables}


def full_size(parameter: nn.Parameter) -> int:
    """Return the number of weights of a parameter at any ZeRO stage."""
    # ZeRO-3 leaves an empty tensor in place of a partitioned parameter.
    return int(getattr(parameter, "ds_numel", parameter.numel()))
