"""DeepSpeed: its configuration as a pure function of ours, the engine, and one optimizer step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlrec.config import Config
from mlrec.data.schema import Batch, Step
from mlrec.models.building import training_dtype
from mlrec.models.recommender import NO_HOOKS, ForwardHooks, Recommender
from mlrec.runs import checkpoint
from mlrec.runtime.distributed import World
from mlrec.train import optim
from mlrec.train.activation_memory import STATE_BYTES, Saving, choose, saved_bytes

BUCKET = 500_000_000
"""DeepSpeed's own reduce_bucket_size."""


def deepspeed_config(config: Config, world_size: int, trained: int) -> dict[str, Any]:
    """The DeepSpeed configuration that a run's configuration means, for so many trained parameters.

    There is no gradient accumulation: one step is one plan and one exchange. The batch size is informational.
    """
    # from stage 1 on DeepSpeed holds a buffer of this size, however few gradients there are to average
    zero: dict[str, Any] = {
        "stage": config.zero.stage,
        "reduce_bucket_size": min(BUCKET, trained),
        **config.zero.options,
    }
    if config.zero.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": -(-config.train.global_batch // world_size),
        "gradient_accumulation_steps": 1,
        # without ZeRO the engine clips by the norm that it has read; DeepSpeed would compute another
        "gradient_clipping": config.optim.clip_norm if config.zero.stage else 0.0,
        "bf16": {"enabled": config.train.precision == "bf16", "check_grad_overflow": True},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 62,
        "timers": {"throughput": {"enabled": False}},  # it would wait for the device twice a step
    }


class Engine:
    """A model under DeepSpeed with its optimizer and schedule.

    Every rank skips the same steps: the decision is read from the norm of the reduced gradient, which all ranks share.
    """

    def __init__(
        self,
        config: Config,
        model: Recommender,
        world: World,
        steps_per_epoch: int,
        total_steps: int,
        resumed: Path | None = None,
        items: int | None = None,
    ) -> None:
        """
        Args:
            resumed: the checkpoint to go on from, of any number of ranks and any ZeRO stage.
            items: the most that a rank encodes in a step; None leaves activations to be recomputed with item.checkpoint=auto.

        Raises:
            ValueError: nothing is trained in a run that has steps, or `resumed` is a checkpoint of another model.
        """
        import deepspeed
        from deepspeed.utils.logging import logger

        logger.setLevel(logging.WARNING)
        self.config, self.model, self.world = config, model, world
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps
        self.parameters: dict[str, nn.Parameter] = {
            n: p for n, p in model.named_parameters() if p.requires_grad
        }
        self.deepspeed_config = deepspeed_config(
            config, world.size, sum(p.numel() for p in self.parameters.values())
        )
        self.learning_rates: dict[str, float] = {}
        self.base_optimizer: Any = None
        self.deepspeed: Any = None
        self.optimizer: Any = None
        self.saving: Saving | None = None
        """What item.checkpoint=auto chose; None where there was nothing to choose."""
        self.skipped_steps = 0
        """Steps of the run that were skipped because their gradient was not finite."""
        self.consecutive_skips = 0
        """Of these, the steps since the last update."""
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        trained_norms = norms if config.item.batchnorm == "sync" else []
        self._statistics = [buffer for module in trained_norms for buffer in module.buffers()]
        self._statistics_before: list[torch.Tensor] = []
        if not self.parameters:
            if total_steps > 0:
                raise ValueError(_nothing_trained(config, model))
            model.to(world.device)  # counted, not trained: there is nothing for DeepSpeed to hold
            return
        groups = optim.parameter_groups(model, model.tower.encoders, config.optim)
        if resumed is not None:
            checkpoint.load_weights(model, resumed)
        choosing = config.item.checkpoint == "auto" and items is not None and model.tower.trained
        item_bytes = (
            saved_bytes(model.tower, world.device, training_dtype(config)) if choosing else None
        )
        self.base_optimizer = optim.build_optimizer(groups, config, world.device)
        self.deepspeed, self.optimizer, _, _ = deepspeed.initialize(
            model=model, optimizer=self.base_optimizer, config=self.deepspeed_config
        )
        from mlrec.train import zero_state as zero

        zero.skip_non_finite(self.optimizer)
        if resumed is not None:
            self._load_optimizer(resumed)
        model.tower.steady_items = (items or 0) if config.zero.stage == 3 else 0
        if items is not None and item_bytes is not None:
            self.saving = choose(item_bytes, items, self._coming_bytes(), world)
            model.tower.recomputes = self.saving.recomputes

    def _coming_bytes(self) -> float:
        """What the run will take of this rank's memory beside activations, and has not yet: at most."""
        state, prefixes = (
            STATE_BYTES * self.parameter_counts()["trained"],
            self.model.tower.activation_cache,
        )
        kept = (
            prefixes.capacity * prefixes.item_bytes
            if prefixes and self.world.device.type == "cpu"
            else 0
        )
        return state + kept

    def seed_step(self, step: int) -> None:
        """Seed torch's generator by (seed, step, rank), so that a resumed run needs no generator's state.

        Only dropout inside pretrained encoders draws from it; mlrec's own layers do not depend on the rank.
        """
        seed = np.random.SeedSequence([self.config.seed, step, self.world.rank]).generate_state(
            1, np.uint64
        )
        torch.manual_seed(int(seed[0]) >> 1)

    def train_step(self, batch: Batch) -> Step:
        """Take one optimizer step, or skip it when the loss or the gradient is not finite; collective."""
        loss = self.forward(batch)
        self.backward(loss)
        norm, skipped = self.update()
        return Step(loss.detach(), norm, skipped)

    def forward(self, batch: Batch, hooks: ForwardHooks = NO_HOOKS) -> torch.Tensor:
        """This rank's share of the loss, after torch's generator was seeded and the learning rates set for the step."""
        self.deepspeed.train()
        self._statistics_before = [buffer.clone() for buffer in self._statistics]
        self.seed_step(batch.step)
        factor = optim.schedule(
            self.config.optim, batch.step, self.steps_per_epoch, self.total_steps
        )
        self.learning_rates = optim.set_learning_rates(self.base_optimizer, factor)
        loss: torch.Tensor = self.deepspeed(batch, hooks)
        return loss

    def backward(self, loss: torch.Tensor) -> None:
        """Compute the gradient and average it over the ranks; a loss that is not finite makes it NaN on all of them."""
        self.deepspeed.backward(loss * torch.where(torch.isfinite(loss.detach()), 1.0, torch.nan))

    def update(self) -> tuple[torch.Tensor | float, bool]:
        """Update the weights by the gradient, unless it is not finite.

        Returns:
            Norm of the gradient before clipping, and whether the step was skipped. A skipped step leaves weights, moments, step
            counters and batch norm statistics as they were.
        """
        norm, skipped = (
            self._update_without_zero() if self.config.zero.stage == 0 else self._update_with_zero()
        )
        if skipped:
            for buffer, before in zip(self._statistics, self._statistics_before, strict=True):
                buffer.copy_(before)
        self.skipped_steps += skipped
        self.consecutive_skips = self.consecutive_skips + 1 if skipped else 0
        return norm, skipped

    def _update_with_zero(self) -> tuple[torch.Tensor | float, bool]:
        self.deepspeed.step()  # reads the norm, and skips by it: see zero.skip_non_finite
        return self.deepspeed.get_global_grad_norm(), bool(self.optimizer.overflow)

    def _update_without_zero(self) -> tuple[torch.Tensor | float, bool]:
        from mlrec.train import zero_state as zero

        trained = [
            parameter for parameter in self.parameters.values() if parameter.grad is not None
        ]
        norm = zero.gradient_norm(trained)
        if not torch.isfinite(norm):
            self.deepspeed.zero_grad()
            return torch.inf, True
        if self.config.optim.clip_norm:
            nn.utils.clip_grads_with_norm_(trained, self.config.optim.clip_norm, norm)
        self.deepspeed.step()
        return norm, False

    def parameter_counts(self) -> dict[str, int]:
        """Number of trained and of all parameters."""

        def size(parameter: Any) -> int:
            return int(
                getattr(parameter, "ds_numel", parameter.numel())
            )  # ZeRO-3 leaves an empty tensor in its place

        everything = [size(parameter) for parameter in self.model.parameters()]
        return {"trained": sum(map(size, self.parameters.values())), "total": sum(everything)}

    def save(self, run: Path, state: checkpoint.TrainingState) -> Path:
        """Write a checkpoint of this state; collective.

        Raises:
            checkpoint.NonFiniteError: a weight or a moment is not finite; no checkpoint was written.
        """
        from mlrec.train import zero_state as zero

        if (
            self.parameters and state.step == self.skipped_steps
        ):  # no step was taken: the optimizer has no moments yet
            zero.create_state(self.optimizer, self.base_optimizer, steps=0)
        counted = replace(
            state, skipped_steps=self.skipped_steps, consecutive_skips=self.consecutive_skips
        )
        return checkpoint.save(run, self.world, counted, self._tensors())

    def _tensors(self) -> Iterator[tuple[int, str, torch.Tensor]]:
        from mlrec.train import zero_state as zero

        zero.link_state(self.optimizer)
        parameters = dict(self.model.named_parameters())
        for index, (name, value) in enumerate(self.model.state_dict(keep_vars=True).items()):
            if name not in parameters:
                yield index, f"{checkpoint.WEIGHT}{name}", value
                continue
            yield index, f"{checkpoint.WEIGHT}{name}", zero.get_weight(value)
            if name in self.parameters:
                for moment in zero.MOMENTS:
                    yield (
                        index,
                        f"{moment}/{name}",
                        zero.get_moment(self.base_optimizer, value, moment),
                    )

    def _load_optimizer(self, path: Path) -> None:
        from mlrec.train import zero_state as zero

        state = checkpoint.read_state(path)
        self.skipped_steps, self.consecutive_skips = state.skipped_steps, state.consecutive_skips
        zero.create_state(
            self.optimizer, self.base_optimizer, steps=state.step - state.skipped_steps
        )
        for name, weight in checkpoint.read_tensors(path, checkpoint.WEIGHT):
            if name in self.parameters:
                zero.set_weight(self.parameters[name], weight.to(self.world.device))
        shapes = self._shapes()
        for moment in zero.MOMENTS:
            # with resume.force, parameters may be frozen now that were trained then, and the other way round
            for name, value in checkpoint.read_moments(
                path, moment, shapes, self.config.resume.force
            ):
                zero.set_moment(
                    self.base_optimizer, self.parameters[name], moment, value.to(self.world.device)
                )

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Full shapes of the trained parameters, also where ZeRO-3 has partitioned them."""
        return {name: tuple(getattr(p, "ds_shape", p.shape)) for name, p in self.parameters.items()}


def _nothing_trained(config: Config, model: Recommender) -> str:
    if not model.sequence_model.trained:
        return (
            f"{config.recommender.name} is counted from the training interactions, not trained, and train.duration is "
            f"{config.train.duration!r}; set train.duration='0 steps'"
        )
    return "nothing is trained: every parameter is frozen; set item.tuning or choose another recommender"
