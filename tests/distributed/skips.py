"""Training on real ranks in which one rank's gradient or loss is not finite in some steps."""

from __future__ import annotations

from typing import Any

import torch

from mlrec.config import load
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.stream import StepDataset, open_data
from mlrec.models.building import build_model
from mlrec.runs import checkpoint
from mlrec.runtime.distributed import start_world, stop_world, sum_over_ranks
from mlrec.train.engine import build_engine

POISONED = {2: "gradient", 3: "loss", 5: "huge"}
"""Faults of the last rank by step.

They are a NaN gradient, an infinite loss, and a gradient whose square overflows fp32.
"""


class Trainer:
    """Engine and batches of a run."""

    def __init__(self, overrides: list[str], resumed: Any = None) -> None:
        self.world = start_world()
        self.config = load([], overrides)
        self.data = open_data(self.config.data)
        global_batch = self.config.train.global_batch
        owners = self.data.owners(global_batch, self.world.nodes)
        plan = Plan(self.data.sequences, self.config.seed, global_batch, owners)
        model = build_model(self.config, self.data, self.world.rank)
        self.engine = build_engine(
            self.config, model, self.world, plan.steps_per_epoch, 12, resumed
        )
        self.dataset = StepDataset(
            self.data, plan, self.world.rank, model.tower.specs, False, False
        )

    def step(self, step: int) -> tuple[float, bool]:
        """Take a step, and return its loss over all ranks and whether it was skipped."""
        batch = self.dataset[step]
        kind = POISONED.get(step) if self.world.rank == self.world.size - 1 else None
        result = self._poisoned(batch, kind) if kind else self.engine.train_step(batch)
        mean_loss = float(sum_over_ranks(result.loss.clone())) / self.world.size
        return mean_loss, result.skipped

    def _poisoned(self, batch: Batch, kind: str) -> Any:
        forward = self.engine.forward
        factor = {"gradient": torch.nan, "loss": torch.inf, "huge": 1e30}[kind]

        def poisoned(batch: Batch) -> torch.Tensor:
            loss = forward(batch)
            if kind == "loss":
                return loss * factor
            loss.register_hook(lambda gradient: gradient * factor)
            return loss

        self.engine.forward = poisoned  # type: ignore[method-assign]
        try:
            return self.engine.train_step(batch)
        finally:
            self.engine.forward = forward  # type: ignore[method-assign]

    def save(self, step: int) -> Any:
        state = checkpoint.TrainingState(
            step, self.config.seed, self.data.info.fingerprint, self.config.train.global_batch
        )
        return self.engine.save(self.config.run_path, state)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return a copy of all weights and moments."""
        return {name: tensor.cpu().clone() for _, name, tensor in self.engine.state.tensors()}

    def counters(self) -> list[float]:
        """Return Adam's step counters of the tensors that this rank updates."""
        return [float(state["step"]) for state in self.engine.state.base_optimizer.state.values()]


def skip_steps(variants: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Train each variant for 8 steps, saved after 4, and again from there.

    Returns:
        Per variant: losses and skips of the steps, the tensors and counters that a skipped step
        changed, the losses of the resumed run, and its counts at the start and the end.
    """
    results = {}
    for name, overrides in variants.items():
        trainer = Trainer([*overrides, f"name={name}"])
        outcome: dict[str, Any] = {"losses": [], "skipped": [], "changed": []}
        for step in range(8):
            # Copies are slow, and Adam has no moments before its first step.
            before = trainer.tensors() if step in POISONED else {}
            counters_before = trainer.counters() if step in POISONED else []
            loss, skipped = trainer.step(step)
            outcome["losses"].append(loss)
            outcome["skipped"].append(skipped)
            if step in POISONED:
                after = trainer.tensors()
                outcome["changed"] += [
                    key for key in before if not torch.equal(before[key], after[key])
                ]
                outcome["changed"] += ["counters"] * (trainer.counters() != counters_before)
            if step == 3:
                path = trainer.save(4)
        resumed = Trainer([*overrides, f"name={name}"], path)
        outcome["carried"] = [resumed.engine.skipped_steps, resumed.engine.consecutive_skips]
        outcome["resumed"] = [resumed.step(step)[0] for step in range(4, 8)]
        outcome["counts"] = [
            resumed.engine.skipped_steps,
            resumed.engine.consecutive_skips,
            *set(resumed.counters()),
        ]
        results[name] = outcome
    stop_world()
    return results
