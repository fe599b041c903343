"""The training loop. Start it with `mlrec train`, `deepspeed --module mlrec.train`, or `torchrun -m mlrec.train`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mlrec import checkpoint, storage
from mlrec import config as configuration
from mlrec.checkpoint import TrainingState
from mlrec.config import Config
from mlrec.data.decode import stand_ins
from mlrec.data.format import DATASET_FILE
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, StepDataset, open_data, stream_steps
from mlrec.distributed import World, barrier, from_main, gather_objects, start_world, stop_world
from mlrec.durations import steps_of
from mlrec.ending import Stopped
from mlrec.engine import Engine, build_model, training_dtype
from mlrec.evaluate import Evaluation, Summary, evaluate, evaluate_run, flat_metrics
from mlrec.meter import Meter
from mlrec.process import exit_with, run_main
from mlrec.record import new_record, read_record, write_record
from mlrec.rows import check_rows
from mlrec.run_files import CONFIG_FILE, DEEPSPEED_FILE, FAILURES_FILE, RESULTS_FILE
from mlrec.run_lock import run_lock
from mlrec.schema import Batch
from mlrec.scrub import scrub
from mlrec.settings import check_same_run
from mlrec.start import start_from
from mlrec.stopping import StopRequest
from mlrec.terminal import say
from mlrec.tracking import Tracker


def train(config: Config) -> None:
    """Trains the run of `config` to its end, going on from its newest checkpoint, and ranks the test split with the best.

    Raises:
        ValueError: the configuration, the data set and the run's checkpoints do not fit together.
        RuntimeError: the loss is not finite, or too many items could not be read.
        Stopped: a rank was told to stop; there is a checkpoint of the step after which all did.
    """
    check_rows(config)
    check_place(config)
    world = start_world()
    data = open_data(config.data)
    owners = data.owners(config.train.global_batch, world.nodes)
    plan = Plan(data.sequences, config.seed, config.train.global_batch, owners)
    total_steps = steps_of(config.train.duration, plan.steps_per_epoch, 0)
    with run_lock(config.run_path, world.is_main):  # before its checkpoints are read, which another process may add and remove
        resumed, state = find_state(config, data)
        if state.step > total_steps:
            raise ValueError(
                f"{config.run_path} has done {state.step} steps, and train.duration={config.train.duration!r} is {total_steps}; "
                "give the new run another name or run_dir, or make it longer"
            )
        model = build_model(config, data, world.rank)
        begun = start_from(config, data, model) if resumed is None else ""
        prefixes = model.tower.keep_prefixes(config.item.prefix_cache_bytes, training_dtype(config), world.device)
        local_negatives = config.loss.negatives == "local"
        kept = prefixes.kept if prefixes else None
        dataset = StepDataset(
            data, plan, world.rank, model.tower.specs, local_negatives, model.whole_catalogue, kept, first=state.step
        )
        items = plan.most_items(total_steps, dataset.items_N)
        engine = Engine(config, model, world, plan.steps_per_epoch, total_steps, resumed, items)
        stream = stream_steps(dataset, state.step, total_steps, config.data.num_workers, pin_memory=world.device.type == "cuda")
        stopped_by = _take_steps(_Run(config, data, world, engine, state, begun), stream)
    stop_world()
    if stopped_by:
        raise Stopped(stopped_by)


def _take_steps(run: _Run, stream: Iterator[Batch]) -> int:
    """Trains on the stream's batches, evaluates and saves as the run says; the signal that stopped it, 0 at its end."""
    config, data, world, engine, total_steps = run.config, run.data, run.world, run.engine, run.total_steps
    every, stopped_by = config.train, 0
    tracking = Tracker(config.run_path, config, total_steps, asdict(config), world.is_main, run.state.step)
    with StopRequest(world) as stop, tracking as tracker:
        tracker.message(run.greeting())
        if total_steps == 0:  # a recommender that is counted, not trained
            counted = evaluate(engine.model, data, config, world, "validation")
            tracker.log(0, flat_metrics(counted.metrics, "validation/") | run.data_metrics(0, counted))
            run.save(0, counted.metrics)
        asked = time.perf_counter()
        for batch in stream:
            waited_s = time.perf_counter() - asked
            with run.meter.counting():
                loss, norm = engine.train_step(batch.to(world.device))
            run.meter.add(batch, loss, norm, waited_s)
            done, summary = batch.step + 1, None
            stopped_by = stop.agreed() if done < total_steps else 0
            if run.due(done, every.log_every, every.evaluate_every, every.save_every) or stopped_by:
                tracker.log(done, run.metrics(done))
            if run.due(done, every.evaluate_every):
                found = evaluate(engine.model, data, config, world, "validation")
                summary = found.metrics
                tracker.log(done, flat_metrics(summary, "validation/") | run.data_metrics(done, found))
            if run.is_best(summary) or run.due(done, every.save_every) or stopped_by:
                run.save(done, summary)
            if stopped_by:
                tracker.message(
                    f"stopped after step {done} of {total_steps}, which is saved: the same command goes on from there"
                )
                break
            asked = time.perf_counter()
        else:
            test = evaluate_run(config, data, world, "test")
            run.account(test["bad_items"], total_steps)
            tracker.log(total_steps, flat_metrics(test["metrics"], "test/"))
            tracker.message(f"test {_words(test['metrics']['all'])}; all figures: {config.run_path / RESULTS_FILE}")
    return stopped_by


def check_place(config: Config) -> None:
    """
    Raises:
        ValueError: run_dir is no folder for a run.
    """
    path = config.run_path
    if path.is_file() or (path / DATASET_FILE).exists():
        what = "a file" if path.is_file() else "a data set"
        raise ValueError(f"run_dir is {config.run_dir!r}, and {path} is {what}; give a folder for the run alone")


def find_state(config: Config, data: Data) -> tuple[Path | None, TrainingState]:
    """The checkpoint that the run goes on from, if it has one, and the state that it begins in.

    Raises:
        ValueError: the data set, the global batch, the seed or other settings are not the checkpoint's.
    """
    begin = TrainingState(0, config.seed, data.info.fingerprint, config.train.global_batch)
    path = from_main(lambda: checkpoint.newest(config.run_path))
    if path is None:
        return None, begin
    state = checkpoint.read_state(path)
    checkpoint.check_resumable(state, begin, path, config.resume.force)
    check_same_run(config)
    return path, replace(begin, step=state.step)


class _Run:
    """The run's folder and its bookkeeping between the steps."""

    def __init__(self, config: Config, data: Data, world: World, engine: Engine, state: TrainingState, begun: str) -> None:
        self.config, self.data, self.world, self.engine, self.begun = config, data, world, engine, begun
        self.steps_per_epoch, self.total_steps, self.state = engine.steps_per_epoch, engine.total_steps, state
        self.meter = Meter(world, training_dtype(config))
        self._began = time.monotonic()
        self._bad_items = {entry["item"] for entry in _read_failures(config.run_path)}
        best = from_main(lambda: checkpoint.best(config.run_path, config.evaluate.select_by))
        metrics = checkpoint.read_state(best).metrics if best else {}
        self._best = metrics.get(config.evaluate.select_by, -1.0)
        dataset = {
            "name": data.info.name,
            "url": scrub(data.url),
            "fingerprint": data.info.fingerprint,
            "counts": data.info.counts,
        }
        self.record = new_record(config.name, world.size, dataset, engine.parameter_counts())
        self.record["saving"] = asdict(engine.saving) if engine.saving else None
        if (before := read_record(config.run_path)) is not None:
            self.record |= {"started": before["started"], "hours": before["hours"]}
        self._hours_before = self.record["hours"]
        if world.is_main:
            config.run_path.mkdir(parents=True, exist_ok=True)
            configuration.save(config, config.run_path / CONFIG_FILE)
            deepspeed_json = json.dumps(engine.deepspeed_config, indent=1) + "\n"
            storage.write_bytes(str(config.run_path / DEEPSPEED_FILE), deepspeed_json.encode())
            write_record(config.run_path, self.record)

    def greeting(self) -> str:
        """What is about to happen, in a line."""
        config, counts, trained = self.config, self.data.info.counts, self.record["parameters"]["trained"]
        prefixes = self.engine.model.tower.prefixes
        return (
            f"{config.name}: {counts['users']:,} users, {self.data.catalogue.size:,} items of {self.data.info.name}; "
            f"{trained:,} trained parameters; {self.world.size} ranks, ZeRO-{config.zero.stage}, {config.train.precision}; "
            f"steps {self.state.step} to {self.total_steps}, {self.steps_per_epoch} an epoch{self.begun}{self.data.store.room()}"
            f"{stand_ins(self.engine.model.tower.specs, self.data.info)}"
            f"{prefixes.room_in_words(self.world.size) if prefixes else ''}"
            f"{self.engine.saving.in_words() if self.engine.saving else ''}"
        )

    def due(self, done: int, *durations: str) -> bool:
        """Whether what happens every so often, by any of the durations, happens after `done` steps; at the end all does."""
        steps = (max(1, steps_of(every, self.steps_per_epoch, self.total_steps)) for every in durations)
        return done == self.total_steps or any(done % every == 0 for every in steps)

    def metrics(self, done: int) -> dict[str, float]:
        """Metrics of the steps since the last call; collective.

        Raises:
            RuntimeError: a loss was not finite, or more items than data.max_bad_items could not be read.
        """
        metrics = self.meter.reduce()
        if metrics["data/bad_items"]:
            found = {item: reason for found in gather_objects(self.meter.bad_items) for item, reason in found.items()}
            self.meter.bad_items.clear()
            self.account(found, done)
        rates = self.engine.learning_rates.items()
        rate_of = {f"train/{name.split('/')[0]}_lr".replace("recommender_", ""): rate for name, rate in rates}
        return {**metrics, **rate_of, "train/epoch": done / self.steps_per_epoch, "data/bad_items": len(self._bad_items)}

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
        new = {item: reason for item, reason in sorted(found.items()) if item not in self._bad_items}
        self._bad_items.update(new)
        if self.world.is_main:
            with open(self.config.run_path / FAILURES_FILE, "a") as ledger:
                ledger.writelines(json.dumps({"item": i, "reason": r, "step": done}) + "\n" for i, r in new.items())
        most = self.config.data.max_bad_items
        if len(self._bad_items) > most:
            raise RuntimeError(
                f"{len(self._bad_items)} items could not be read, data.max_bad_items is {most}; the reasons are in "
                f"{self.config.run_path / FAILURES_FILE}, mlrec-shards check {self.data.url} lists the faults"
            )

    def is_best(self, summary: Summary | None) -> bool:
        """Whether a validation summary beats all before it."""
        if summary is None or (value := flat_metrics(summary)[self.config.evaluate.select_by]) <= self._best:
            return False
        self._best = value
        return True

    def save(self, done: int, summary: Summary | None) -> None:
        """Writes a checkpoint; collective. `metrics` was called at this step, so that no loss up to it was NaN."""
        self.engine.save(self.config.run_path, replace(self.state, step=done, metrics=flat_metrics(summary or {})))
        if self.world.is_main:
            checkpoint.prune(self.config.run_path, self.config.train.keep_last, self.config.evaluate.select_by)
            self.record["hours"] = round(self._hours_before + (time.monotonic() - self._began) / 3600, 4)
            write_record(self.config.run_path, self.record)
        barrier()  # what is read next has no checkpoint that is about to go
        self.meter.restart_clock()


def _read_failures(run_path: Path) -> list[dict[str, object]]:
    path = run_path / FAILURES_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _words(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "users")


def main(arguments: Sequence[str]) -> None:
    """Trains: CONFIG ... key=value ..."""
    # the deepspeed launcher adds --local_rank; the environment says the same
    given = [argument for argument in arguments if not argument.startswith("--local_rank")]
    if not given or given[0] in ("-h", "--help"):
        say("usage: mlrec train CONFIG [CONFIG ...] [key=value ...] [--dry-run[=RANKS]]")
        say("\nmlrec list keys explains every key; mlrec list encoders, recommenders, losses and fusions name rows.")
        return
    train(configuration.load_arguments(given))


if __name__ == "__main__":
    exit_with(run_main(main, sys.argv[1:]))
