"""A training run's folder and its bookkeeping between the steps."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NoReturn

from mlrec import config as configuration
from mlrec import storage
from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.config.run_files import CONFIG_FILE, DEEPSPEED_FILE, FAILURES_FILE
from mlrec.data.stream import Data
from mlrec.evaluation.evaluate import Evaluation, flat_metrics
from mlrec.evaluation.results import Summary
from mlrec.models.building import training_dtype
from mlrec.runs import checkpoint, failures
from mlrec.runs.checkpoint import TrainingState
from mlrec.runs.failures import Failure
from mlrec.runs.record import new_record, read_record, write_record
from mlrec.runs.run import last_step_of
from mlrec.runtime.distributed import World, barrier, from_main, gather_objects
from mlrec.runtime.printable import counted
from mlrec.runtime.redact import scrub
from mlrec.train import optim
from mlrec.train.meter import Meter
from mlrec.train.validations import Validations
from mlrec.train.warm_start import WarmStart

if TYPE_CHECKING:  # importing it takes DeepSpeed's seconds, which the caller has spent
    from mlrec.train.engine import Engine


class TrainingRun:
    """A run's folder and its bookkeeping between the steps; every rank has one."""

    def __init__(
        self,
        config: Config,
        data: Data,
        world: World,
        engine: Engine,
        state: TrainingState,
        warm_start: WarmStart | None,
    ) -> None:
        """Prepare the run's folder; collective.

        Args:
            state: state of the checkpoint that the run resumes from, or of step 0.
            warm_start: weights that a new run took over; None without train.start_from.
        """
        self.config = config
        self.data = data
        self.world = world
        self.engine = engine
        self.warm_start = warm_start
        self.state = state
        self.steps_per_epoch = engine.steps_per_epoch
        self.total_steps = engine.total_steps
        # The loop sets it to an earlier step when train.patience runs out.
        self.last_step = last_step_of(config, state, engine.total_steps)
        self.meter = Meter(world, training_dtype(config))
        self._start_s = time.monotonic()
        # Rank 0 alone repairs the file of failures. All ranks get its entries, to count them alike.
        self._bad_items: dict[int, str] = {}
        for entry in from_main(lambda: failures.repair(config.run_path)):
            self._bad_items[entry.item] = entry.reason
        self.validations = Validations(config, data.info.fingerprint, state.stale_validations)
        dataset = {
            "name": data.info.name,
            "url": scrub(data.url),
            "fingerprint": data.info.fingerprint,
            "counts": data.info.counts,
            "split": data.info.split.kind,
        }
        self.record = new_record(config.name, world.size, dataset, engine.state.parameter_counts())
        self.record["users_per_epoch"] = data.sequences.num_train_users
        self.record["chunks"] = asdict(engine.chunks) if engine.chunks else None
        self.record["random_weights"] = engine.model.tower.random_encoders
        before = from_main(lambda: read_record(config.run_path)) or {}
        # A resumed run goes on counting. Its encoders started from the weights that its first
        # command loaded, whatever they would start from now.
        carried_over = ["started", "hours"]
        if state.step:
            carried_over.append("random_weights")
        for key in carried_over:
            if key in before:
                self.record[key] = before[key]
        self._hours_before = self.record["hours"]
        # Before the first step, so that a run that is killed at any time can be resumed.
        if world.is_main:
            config.run_path.mkdir(parents=True, exist_ok=True)
            _save_config(config)
            deepspeed_json = json.dumps(engine.deepspeed_config, indent=1) + "\n"
            storage.write_bytes(str(config.run_path / DEEPSPEED_FILE), deepspeed_json.encode())
            write_record(config.run_path, self.record)

    def greeting(self) -> str:
        """Return one line that says what is about to happen."""
        config = self.config
        counts = self.data.info.counts
        trained = self.record["parameters"]["trained"]
        split = ", split by time" if self.data.info.split.kind == "time" else ""
        cache = self.engine.model.tower.activation_cache
        return (
            f"{config.name}: {counted(counts['users'], 'user')}, "
            f"{counted(self.data.catalogue.size, 'item')} "
            f"of {self.data.info.name}{split}; {trained:,} trained parameters; "
            f"{counted(self.world.size, 'rank')}, ZeRO-{self.engine.zero_stage}, "
            f"{config.train.precision}; "
            f"steps {self.state.step} to {self.last_step}, {self.steps_per_epoch} an epoch"
            f"{self.warm_start.in_words() if self.warm_start else ''}{self.data.store.room()}"
            f"{cache.room_in_words(self.world.size) if cache else ''}"
            f"{self.engine.chunks.in_words() if self.engine.chunks else ''}"
        )

    def due(self, done: int, *durations: str) -> bool:
        """Return whether an event with one of these periods is due after `done` steps.

        Every event is due at the end of the run.
        """
        if done == self.total_steps:
            return True
        for duration in durations:
            period = max(1, steps_of(duration, self.steps_per_epoch, self.total_steps))
            if done % period == 0:
                return True
        return False

    def metrics(self, done: int) -> dict[str, float]:
        """Return the metrics of the steps since the last call; collective.

        Raises:
            RuntimeError: more items than data.max_bad_items could not be read.
        """
        metrics = self.meter.reduce()
        if metrics["data/bad_items"]:  # in the sum over all ranks
            # Rare, and the sum is the same on all ranks: only then do they exchange the reasons.
            bad_items: dict[int, str] = {}
            for bad_items_of_rank in gather_objects(self.meter.bad_items):
                bad_items.update(bad_items_of_rank)
            self.meter.bad_items.clear()
            self.record_failures(bad_items, done)
        # Groups with and without weight decay share a learning rate. With optim.layer_decay it is
        # the highest of an encoder's, which is that of its last stage.
        for group, rate in self.engine.learning_rates.items():
            name = f"train/{optim.part_for_logs(group)}_lr".replace("recommender_", "")
            metrics[name] = max(rate, metrics.get(name, 0.0))
        metrics["train/epoch"] = done / self.steps_per_epoch
        metrics["data/bad_items"] = len(self._bad_items)
        return metrics

    def data_metrics(self, done: int, evaluation: Evaluation) -> dict[str, float]:
        """Record the items that an evaluation could not read, and return its data metrics.

        Raises:
            RuntimeError: more items than data.max_bad_items could not be read.
        """
        self.record_failures(evaluation.bad_items, done)
        return {
            "data/bad_items": len(self._bad_items),
            "data/remote_bytes": evaluation.remote_bytes,
        }

    def record_failures(self, bad_items: dict[int, str], done: int) -> None:
        """Add items that could not be read to the run's failures, unless they are in it.

        Args:
            bad_items: reasons by item, the same on all ranks.

        Raises:
            RuntimeError: with them there are more than data.max_bad_items.
        """
        # Sorted, so that all ranks report the same first reasons if there are too many.
        new_failures = []
        for item, reason in sorted(bad_items.items()):
            if item not in self._bad_items:
                self._bad_items[item] = reason
                new_failures.append(Failure(item, reason, done))
        if self.world.is_main:
            failures.append(self.config.run_path, new_failures)
        max_bad_items = self.config.data.max_bad_items
        if len(self._bad_items) > max_bad_items:
            file = self.config.run_path / FAILURES_FILE
            raise failures.too_many(self._bad_items.values(), max_bad_items, self.data.url, file)

    def is_stopping_early(self, done: int) -> bool:
        """Return whether train.patience stops the run after `done` steps, the same on all ranks."""
        return done < self.total_steps and self.validations.out_of_patience

    def is_save_due(self, done: int) -> bool:
        """Return whether train.save_every asks for a checkpoint after `done` steps.

        It is not due within a series of skipped steps: their checkpoints would displace those from
        before training diverged.
        """
        return self.due(done, self.config.train.save_every) and (
            not self.engine.consecutive_skips or done == self.total_steps
        )

    def save(self, done: int, summary: Summary | None) -> None:
        """Write a checkpoint; collective.

        Raises:
            RuntimeError: a weight or a moment is not finite; no checkpoint was written.
        """
        state = replace(
            self.state,
            step=done,
            metrics=flat_metrics(summary or {}),
            stale_validations=self.validations.stale,
        )
        try:
            self.engine.save(self.config.run_path, state)
        except checkpoint.NonFiniteError as error:
            raise RuntimeError(f"{error}. {self._remedy(done)}") from error
        if self.world.is_main:
            # The newest checkpoints may hold diverging weights: those before them must stay.
            if not self.engine.consecutive_skips:
                checkpoint.prune(
                    self.config.run_path,
                    self.config.train.keep_last,
                    self.config.evaluate.select_by,
                )
            hours = (time.monotonic() - self._start_s) / 3600
            self.record["hours"] = round(self._hours_before + hours, 4)
            write_record(self.config.run_path, self.record)
        # All ranks wait: none may read a checkpoint that rank 0 is about to prune.
        barrier()
        self.meter.restart_clock()

    def has_diverged(self) -> bool:
        """Return whether train.max_skipped_steps in a row were skipped, the same on all ranks."""
        return self.engine.consecutive_skips >= self.config.train.max_skipped_steps

    def give_up(self, done: int) -> NoReturn:
        """End a run that has diverged; collective.

        Raises:
            RuntimeError: always; the message says how to continue.
        """
        skips = self.engine.consecutive_skips
        raise RuntimeError(
            f"Training has diverged: the loss or the gradient of {skips} steps in a row, "
            f"up to step {done}, was not finite "
            f"(train.max_skipped_steps is {self.config.train.max_skipped_steps}). "
            f"{self._remedy(done - skips)}"
        )

    def _remedy(self, updated: int) -> str:
        """Set the checkpoints of diverged weights aside, and return how to continue; collective.

        Args:
            updated: step whose update gave these weights.
        """
        run = self.config.run_path
        # Rank 0 renames the folders. All ranks need the outcome, to raise the same error.
        aside = from_main(lambda: checkpoint.set_aside(run, updated))
        newest = from_main(lambda: checkpoint.newest(run))
        remedy = (
            "Run the same command again with a lower optim.lr and optim.encoder_lr, "
            "or a longer optim.warmup"
        )
        if newest:
            # Another learning rate is another setting, which only resume.force lets pass.
            remedy += f", and resume.force=true: it continues from {newest}."
        else:
            remedy += ": it starts from the first step."
        if aside:
            folders = ", ".join(map(str, aside))
            remedy += f" Checkpoints of the diverged weights were set aside as {folders}."
        return remedy


def _save_config(config: Config) -> None:
    """Write the run's config.yaml, complete or not at all.

    A run without it cannot be resumed or evaluated.
    """
    partial = config.run_path / f"{CONFIG_FILE}.partial"
    configuration.save(config, partial)
    os.replace(partial, config.run_path / CONFIG_FILE)
