"""A training run's folder and its bookkeeping between the steps."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from typing import NoReturn

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
from mlrec.runtime.distributed import World, barrier, from_main, gather_objects
from mlrec.runtime.redact import scrub
from mlrec.train.engine import Engine
from mlrec.train.meter import Meter


class TrainingRun:
    """The run's folder and its bookkeeping between the steps."""

    def __init__(
        self,
        config: Config,
        data: Data,
        world: World,
        engine: Engine,
        state: TrainingState,
        begun: str,
    ) -> None:
        self.config, self.data, self.world, self.engine, self.begun = (
            config,
            data,
            world,
            engine,
            begun,
        )
        self.steps_per_epoch, self.total_steps, self.state = (
            engine.steps_per_epoch,
            engine.total_steps,
            state,
        )
        self.meter = Meter(world, training_dtype(config))
        self._began = time.monotonic()
        self._bad_items = {
            entry.item: entry.reason
            for entry in from_main(lambda: failures.repair(config.run_path))
        }
        self._best = from_main(self._best_before)
        dataset = {
            "name": data.info.name,
            "url": scrub(data.url),
            "fingerprint": data.info.fingerprint,
            "counts": data.info.counts,
        }
        self.record = new_record(config.name, world.size, dataset, engine.parameter_counts())
        self.record["saving"] = asdict(engine.saving) if engine.saving else None
        self.record["random_weights"] = engine.model.tower.random_encoders
        before = from_main(lambda: read_record(config.run_path)) or {}
        kept = ("started", "hours", "random_weights") if state.step else ("started", "hours")
        self.record |= {key: before[key] for key in kept if key in before}
        self._hours_before = self.record["hours"]
        if world.is_main:
            config.run_path.mkdir(parents=True, exist_ok=True)
            _save_config(config)
            deepspeed_json = json.dumps(engine.deepspeed_config, indent=1) + "\n"
            storage.write_bytes(str(config.run_path / DEEPSPEED_FILE), deepspeed_json.encode())
            write_record(config.run_path, self.record)

    def _best_before(self) -> float:
        """Return the best validation metric on this data set so far, below all values if there is none."""
        best = checkpoint.best(self.config.run_path, self.config.evaluate.select_by)
        state = checkpoint.read_state(best) if best else None
        if state is None or state.fingerprint != self.data.info.fingerprint:
            return -1.0
        return state.metrics.get(self.config.evaluate.select_by, -1.0)

    def greeting(self) -> str:
        """What is about to happen, in a line."""
        config, counts, trained = (
            self.config,
            self.data.info.counts,
            self.record["parameters"]["trained"],
        )
        cache = self.engine.model.tower.activation_cache
        return (
            f"{config.name}: {counts['users']:,} users, {self.data.catalogue.size:,} items of {self.data.info.name}; "
            f"{trained:,} trained parameters; {self.world.size} ranks, ZeRO-{config.zero.stage}, {config.train.precision}; "
            f"steps {self.state.step} to {self.total_steps}, {self.steps_per_epoch} an epoch{self.begun}{self.data.store.room()}"
            f"{cache.room_in_words(self.world.size) if cache else ''}"
            f"{self.engine.saving.in_words() if self.engine.saving else ''}"
        )

    def due(self, done: int, *durations: str) -> bool:
        """Whether what happens every so often, by any of the durations, happens after `done` steps; at the end all does."""
        steps = (
            max(1, steps_of(every, self.steps_per_epoch, self.total_steps)) for every in durations
        )
        return done == self.total_steps or any(done % every == 0 for every in steps)

    def metrics(self, done: int) -> dict[str, float]:
        """Metrics of the steps since the last call; collective.

        Raises:
            RuntimeError: more items than data.max_bad_items could not be read.
        """
        metrics = self.meter.reduce()
        if metrics["data/bad_items"]:
            found = {
                item: reason
                for found in gather_objects(self.meter.bad_items)
                for item, reason in found.items()
            }
            self.meter.bad_items.clear()
            self.account(found, done)
        rates = self.engine.learning_rates.items()
        rate_of = {
            f"train/{name.split('/')[0]}_lr".replace("recommender_", ""): rate
            for name, rate in rates
        }
        return {
            **metrics,
            **rate_of,
            "train/epoch": done / self.steps_per_epoch,
            "data/bad_items": len(self._bad_items),
        }

    def data_metrics(self, done: int, found: Evaluation) -> dict[str, float]:
        """What an evaluation did to the data's metrics.

        Raises:
            RuntimeError: more items than data.max_bad_items could not be read.
        """
        self.account(found.bad_items, done)
        return {"data/bad_items": len(self._bad_items), "data/remote_bytes": found.remote_bytes}

    def account(self, found: dict[int, str], done: int) -> None:
        """Adds to the ledger what of the items that could not be read, the same on all ranks, is new.

        Raises:
            RuntimeError: with them there are more than data.max_bad_items.
        """
        new = {
            item: reason for item, reason in sorted(found.items()) if item not in self._bad_items
        }
        self._bad_items.update(new)
        if self.world.is_main:
            failures.append(
                self.config.run_path, [Failure(item, reason, done) for item, reason in new.items()]
            )
        most = self.config.data.max_bad_items
        if len(self._bad_items) > most:
            raise failures.too_many(
                self._bad_items.values(), most, self.data.url, self.config.run_path / FAILURES_FILE
            )

    def is_best(self, summary: Summary | None) -> bool:
        """Whether a validation summary beats all before it."""
        if (
            summary is None
            or (value := flat_metrics(summary)[self.config.evaluate.select_by]) <= self._best
        ):
            return False
        self._best = value
        return True

    def is_save_due(self, done: int) -> bool:
        """Return whether train.save_every asks for a checkpoint after `done` steps.

        Not within a series of skipped steps: their checkpoints would displace those from before training diverged.
        """
        return self.due(done, self.config.train.save_every) and (
            not self.engine.consecutive_skips or done == self.total_steps
        )

    def save(self, done: int, summary: Summary | None) -> None:
        """Write a checkpoint; collective.

        Raises:
            RuntimeError: a weight or a moment is not finite; no checkpoint was written.
        """
        try:
            self.engine.save(
                self.config.run_path,
                replace(self.state, step=done, metrics=flat_metrics(summary or {})),
            )
        except checkpoint.NonFiniteError as error:
            raise RuntimeError(f"{error}. {self._remedy(done)}") from error
        if self.world.is_main:
            if not self.engine.consecutive_skips:
                checkpoint.prune(
                    self.config.run_path,
                    self.config.train.keep_last,
                    self.config.evaluate.select_by,
                )
            self.record["hours"] = round(
                self._hours_before + (time.monotonic() - self._began) / 3600, 4
            )
            write_record(self.config.run_path, self.record)
        barrier()  # what is read next has no checkpoint that is about to go
        self.meter.restart_clock()

    def has_diverged(self) -> bool:
        """Return whether so many steps in a row were skipped that the run stops, the same on all ranks."""
        return self.engine.consecutive_skips >= self.config.train.max_skipped_steps

    def give_up(self, done: int) -> NoReturn:
        """End a run that has diverged; collective.

        Raises:
            RuntimeError: always; the message says how to go on.
        """
        skips = self.engine.consecutive_skips
        raise RuntimeError(
            f"Training has diverged: the loss or the gradient of {skips} steps in a row, up to step {done}, was not finite "
            f"(train.max_skipped_steps is {self.config.train.max_skipped_steps}). {self._remedy(done - skips)}"
        )

    def _remedy(self, updated: int) -> str:
        """Set the checkpoints of diverged weights aside and return how to continue without them; collective.

        Args:
            updated: the step whose update gave these weights.
        """
        run = self.config.run_path
        aside = from_main(lambda: checkpoint.set_aside(run, updated))
        newest = from_main(lambda: checkpoint.newest(run))
        how = "Run the same command again with a lower optim.lr and optim.encoder_lr, or a longer optim.warmup"
        where = (
            f", and resume.force=true: it continues from {newest}."
            if newest
            else ": it starts from the first step."
        )
        renamed = (
            f" Checkpoints of the diverged weights were set aside as {', '.join(map(str, aside))}."
            if aside
            else ""
        )
        return f"{how}{where}{renamed}"


def _save_config(config: Config) -> None:
    """Write the run's config.yaml, complete or not at all: a run without it cannot be resumed or evaluated."""
    partial = config.run_path / f"{CONFIG_FILE}.partial"
    configuration.save(config, partial)
    os.replace(partial, config.run_path / CONFIG_FILE)
