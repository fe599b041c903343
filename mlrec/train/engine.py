"""A model under DeepSpeed: how it is built, and one optimizer step."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
from deepspeed.utils.logging import logger as deepspeed_logger
from torch import nn

from mlrec.config import Config
from mlrec.data.schema import Batch, Step
from mlrec.models import chunk_choice
from mlrec.models.batchnorm import BatchNormStatistics
from mlrec.models.building import training_dtype, training_precision
from mlrec.models.chunk_choice import ChunkChoice
from mlrec.models.formulas import LATER_BYTES, nominal_rates
from mlrec.models.pass_cost import TowerCost
from mlrec.models.recommender import NO_HOOKS, ForwardHooks, Recommender
from mlrec.models.simulation import tower_cost
from mlrec.runs import checkpoint
from mlrec.runtime.distributed import World
from mlrec.train import optim, zero_state
from mlrec.train.deepspeed_config import deepspeed_config, zero_stage
from mlrec.train.large_tables import find_tables
from mlrec.train.model_state import ModelState, full_size
from mlrec.train.row_optimizers import RowOptimizers, shard_tables


@dataclass
class Engine:
    """A model under DeepSpeed with its optimizer and schedule; `build_engine` makes one.

    Every rank skips the same steps, because all ranks decide by the norm of the reduced gradient.
    """

    config: Config
    model: Recommender
    world: World
    steps_per_epoch: int
    total_steps: int
    deepspeed_config: dict[str, Any]
    state: ModelState
    deepspeed: Any = None
    """DeepSpeed's engine; None if nothing is trained."""
    rows: RowOptimizers | None = None
    """Optimizers of the rows of sharded tables; None without such tables."""
    statistics: BatchNormStatistics | None = None
    """Statistics that training changes; None if batch norms are frozen."""
    chunks: ChunkChoice | None = None
    """How a step's items are encoded; None if their number is not known."""
    learning_rates: dict[str, float] = field(default_factory=dict)
    """Learning rates of the last step by parameter group."""
    skipped_steps: int = 0
    """Steps of the run that were skipped because their gradient was not finite."""
    consecutive_skips: int = 0
    """Skipped steps since the last update."""
    updates: int = 0
    """Steps of the run that were not skipped."""

    @property
    def zero_stage(self) -> int:
        """The ZeRO stage."""
        return zero_stage(self.config, self.world.size)

    def train_step(self, batch: Batch) -> Step:
        """Take an optimizer step, or skip it if loss or gradient is not finite; collective."""
        loss = self.forward(batch)
        self.backward(loss)
        norm, skipped = self.update()
        return Step(loss.detach(), norm, skipped)

    def forward(self, batch: Batch, hooks: ForwardHooks = NO_HOOKS) -> torch.Tensor:
        """Return this rank's share of the loss; collective.

        It seeds torch's generator and sets the learning rates for the step first.
        """
        self.deepspeed.train()
        if self.statistics is not None:
            self.statistics.save()
        self._seed_step(batch.step)
        factor = optim.schedule(
            self.config.optim, batch.step, self.steps_per_epoch, self.total_steps
        )
        self.learning_rates = optim.set_learning_rates(self.state.base_optimizer, factor)
        if self.rows is not None:
            self.learning_rates |= self.rows.set_learning_rates(factor)
        loss: torch.Tensor = self.deepspeed(batch, hooks)
        return loss

    def backward(self, loss: torch.Tensor) -> None:
        """Compute the gradient and average it over the ranks; collective.

        A loss that is not finite on one rank makes the gradient NaN on all of them.
        """
        self.deepspeed.backward(loss * torch.where(torch.isfinite(loss.detach()), 1.0, torch.nan))

    def update(self) -> tuple[torch.Tensor | float, bool]:
        """Update the weights by the gradient, unless it is not finite; collective.

        Its norm is the only number of a step that a single rank reads from the device.

        Returns:
            The norm of the gradient before clipping, and whether the step was skipped. A skipped
            step leaves weights, averages, moments, step counters and batch norm statistics as they
            were.
        """
        if self.rows is not None:
            # First, as DeepSpeed adds this norm to its own before it clips or skips.
            self.rows.reduce_norm()
        if self.zero_stage == 0:
            norm, skipped = self._update_without_zero()
        else:
            norm, skipped = self._update_with_zero()
        if self.rows is not None and not skipped:
            self.rows.step(norm)
        if skipped and self.statistics is not None:
            self.statistics.restore()
        if not skipped:
            self.updates += 1
            if self.config.train.ema:
                decay = optim.average_decay(self.config.train.ema, self.updates)
                self.state.update_averages(decay)
        if self.rows is not None:
            self.rows.release()
        self.skipped_steps += skipped
        self.consecutive_skips = self.consecutive_skips + 1 if skipped else 0
        return norm, skipped

    def save(self, run: Path, state: checkpoint.TrainingState) -> Path:
        """Write a checkpoint of this state; collective.

        Raises:
            checkpoint.NonFiniteError: a weight or moment is not finite; no checkpoint was written.
        """
        if self.state.trained and state.step == self.skipped_steps:
            # No update has been made: DeepSpeed has no moments yet.
            self.state.create_moments(steps=0)
        with_skips = replace(
            state, skipped_steps=self.skipped_steps, consecutive_skips=self.consecutive_skips
        )
        return checkpoint.save(run, self.world, with_skips, self.state.tensors())

    def _seed_step(self, step: int) -> None:
        """Seed torch's generator by (seed, step, rank), so that no generator state must be saved.

        Only dropout inside pretrained encoders draws from it. mlrec's layers are rank-independent.
        """
        sequence = np.random.SeedSequence([self.config.seed, step, self.world.rank])
        seed = int(sequence.generate_state(1, np.uint64)[0])
        torch.manual_seed(seed >> 1)

    def _update_with_zero(self) -> tuple[torch.Tensor | float, bool]:
        # DeepSpeed reads the norm, and skips by it: see zero_state.skip_non_finite.
        self.deepspeed.step()
        return self.deepspeed.get_global_grad_norm(), bool(self.state.zero_optimizer.overflow)

    def _update_without_zero(self) -> tuple[torch.Tensor | float, bool]:
        parameters = [p for p in self.state.trained.values() if p.grad is not None]
        norm = zero_state.gradient_norm(parameters)
        if self.rows is not None:
            norm = torch.hypot(norm, self.rows.norm)
        # The host waits for the device here.
        if not torch.isfinite(norm):
            self.deepspeed.zero_grad()
            return torch.inf, True
        if self.config.optim.clip_norm:
            nn.utils.clip_grads_with_norm_(parameters, self.config.optim.clip_norm, norm)
        self.deepspeed.step()
        return norm, False


def build_engine(
    config: Config,
    model: Recommender,
    world: World,
    steps_per_epoch: int,
    total_steps: int,
    resumed: Path | None = None,
    items: int | None = None,
) -> Engine:
    """Put a model under DeepSpeed, ready for its next step; collective.

    Args:
        resumed: checkpoint to resume from, of any number of ranks and any ZeRO stage.
        items: most items that a rank encodes in a step; None chooses no chunks, and keeps
            activation checkpointing on with item.checkpoint=auto.

    Raises:
        ValueError: nothing is trained in a run that has steps, or `resumed` is a checkpoint of
            another model.
    """
    deepspeed_logger.setLevel(logging.WARNING)
    # DeepSpeed gets neither weights nor gradients of large tables of ids: see row_optimizers.
    tables = find_tables(model, config)
    trained = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in tables:
            trained[name] = parameter
    num_trained = sum(parameter.numel() for parameter in trained.values())
    settings = deepspeed_config(config, world.size, num_trained)
    state = ModelState(model, trained)
    engine = Engine(config, model, world, steps_per_epoch, total_steps, settings, state)
    if not trained:
        _check_nothing_to_train(config, model, total_steps)
        # A recommender of counts: DeepSpeed has nothing to hold.
        model.to(world.device)
        return engine
    if config.item.batchnorm == "sync":
        engine.statistics = BatchNormStatistics(model)

    # Before DeepSpeed has the model: afterwards ZeRO-3 has partitioned its parameters.
    groups = optim.parameter_groups(model, model.tower.encoders, config.optim)
    if resumed is not None:
        checkpoint.load_weights(model, resumed)
        raw_weights = checkpoint.read_tensors(resumed, checkpoint.RAW_WEIGHT)
        checkpoint.take_weights(model, resumed, raw_weights)
    cost = None
    if items is not None:
        cost = tower_cost(model.tower, training_dtype(config), tuple(tables.values()))

    # After loading weights and simulating the cost, which need whole tables.
    optimizers = shard_tables(model, tables, groups, config, world)
    groups = [group for group in groups if group["params"]]
    base_optimizer = optim.build_optimizer(groups, config)
    engine.deepspeed, zero_optimizer, _, _ = deepspeed.initialize(
        model=model, optimizer=base_optimizer, config=settings
    )
    if world.size == 1 and engine.zero_stage == 0:
        # A single rank has nothing to average. DeepSpeed would copy all gradients twice.
        engine.deepspeed.enable_backward_allreduce = False
    has_averages = config.train.ema > 0
    if optimizers:
        rows = RowOptimizers(optimizers, world, config.optim.clip_norm)
        zero_state.add_norm(zero_optimizer, lambda: rows.norm)
        engine.rows = rows
    zero_state.skip_non_finite(zero_optimizer)
    engine.state = ModelState(
        model, trained, zero_optimizer, base_optimizer, has_averages, optimizers
    )
    if resumed is not None:
        _restore_optimizer(engine, resumed)
    elif has_averages:
        # The averages lie next to the moments, which DeepSpeed would create at the first step.
        engine.state.create_moments(steps=0)

    # Under ZeRO-3 every rank must run the same number of chunks in every step.
    model.tower.steady_items = (items or 0) if engine.zero_stage == 3 else 0
    if items is not None and cost is not None:
        # Now, because the parameters have taken their share of the memory.
        _choose_chunks(engine, cost, items)
    return engine


def _choose_chunks(engine: Engine, cost: TowerCost, items: int) -> None:
    """Let the tower encode in chunks that keep the device busy and fit; collective."""
    config = engine.config
    room_bytes = chunk_choice.room_for_activations(_later_bytes(engine), engine.world)
    rates = nominal_rates(engine.world.device, training_precision(config))
    engine.chunks = chunk_choice.choose(config, cost, items, room_bytes, rates)
    chunk_choice.apply(engine.chunks, engine.model.tower)


def _restore_optimizer(engine: Engine, path: Path) -> None:
    """Restore optimizer state and counts of skipped steps from a checkpoint; collective."""
    saved = checkpoint.read_state(path)
    engine.skipped_steps = saved.skipped_steps
    engine.consecutive_skips = saved.consecutive_skips
    engine.updates = saved.step - saved.skipped_steps
    force = engine.config.resume.force
    engine.state.restore_optimizer(path, engine.updates, force, engine.world.device)


def _later_bytes(engine: Engine) -> float:
    """Return the most that the run will take of this rank's memory later, besides activations."""
    # Rows of sharded tables have their moments by now.
    num_trained = sum(map(full_size, engine.state.trained.values()))
    optimizer_bytes = LATER_BYTES * num_trained
    cache = engine.model.tower.activation_cache
    # The cache is in host memory, which activations share only on a CPU.
    if cache is None or engine.world.device.type != "cpu":
        return optimizer_bytes
    return optimizer_bytes + cache.capacity * cache.item_bytes


def _check_nothing_to_train(config: Config, model: Recommender, total_steps: int) -> None:
    """Check that a run without trained parameters has no steps, and no settings of training.

    Raises:
        ValueError: it has some.
    """
    if total_steps > 0:
        raise ValueError(_nothing_trained(config, model))
    for key in ("ema", "patience"):
        if value := getattr(config.train, key):
            raise ValueError(
                f"train.{key} is {value} and has no effect, because nothing is trained. Remove it"
            )


def _nothing_trained(config: Config, model: Recommender) -> str:
    if not model.sequence_model.trained:
        return (
            f"{config.recommender.name} is counted from the training interactions, not trained, "
            f"and train.duration is {config.train.duration!r}. Set train.duration='0 steps'"
        )
    return (
        "Nothing is trained: every parameter is frozen. "
        "Set item.tuning or choose another recommender"
    )
