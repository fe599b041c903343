"""The training loop. Start it with `mlrec train`, `deepspeed --module mlrec.train`, or `torchrun -m mlrec.train`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mlrec import checkpoint
from mlrec import config as configuration
from mlrec.checkpoint import TrainingState
from mlrec.config import Config
from mlrec.data.catalogue_pass import shared_bytes_of_chunks
from mlrec.data.decode import item_bytes
from mlrec.data.format import DATASET_FILE
from mlrec.data.memory import check_shared_memory, shared_bytes_of_steps
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, StepDataset, open_data, stream_steps
from mlrec.distributed import World, from_main, start_world, stop_world
from mlrec.durations import steps_of
from mlrec.ending import Stopped
from mlrec.engine import Engine, build_model, training_dtype
from mlrec.evaluate import evaluate, evaluate_run, flat_metrics, oracle_of
from mlrec.notices import notices
from mlrec.process import exit_with, run_main
from mlrec.rows import check_rows
from mlrec.run_files import CONFIG_FILE, RESULTS_FILE
from mlrec.run_lock import run_lock
from mlrec.schema import Batch
from mlrec.settings import check_same_run, model_settings
from mlrec.start import encoders_to_restore, keep_encoder_files, start_from
from mlrec.stopping import StopRequest
from mlrec.terminal import say
from mlrec.tracking import Tracker
from mlrec.training_run import TrainingRun
from mlrec.wandb_run import wandb_mode


def train(config: Config) -> None:
    """Trains the run of `config` to its end, going on from its newest checkpoint, and ranks the test split with the best.

    Raises:
        ValueError: the configuration, the data set and the run's checkpoints do not fit together, or WANDB_MODE is no mode.
        RuntimeError: training diverged, or too many items could not be read.
        Stopped: a rank was told to stop; there is a checkpoint of the step after which all did.
    """
    check_rows(config)
    check_place(config)
    wandb_mode(config.tracking)
    world = start_world()
    data = open_data(config.data)
    oracle_of(data)
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
        model = build_model(config, data, world.rank, encoders_to_restore(config, resumed))
        begun = start_from(config, data, model) if resumed is None else ""
        from_main(lambda: keep_encoder_files(config, model, resumed))
        prefixes = model.tower.keep_prefixes(config.item.prefix_cache_bytes, training_dtype(config), world.device)
        local_negatives = config.loss.negatives == "local"
        kept = prefixes.kept if prefixes else None
        dataset = StepDataset(
            data, plan, world.rank, model.tower.specs, local_negatives, model.whole_catalogue, kept, first=state.step
        )
        items = plan.most_items(total_steps, dataset.items_N)
        check_room_of_loader(config, dataset, items, world)
        engine = Engine(config, model, world, plan.steps_per_epoch, total_steps, resumed, items)
        stream = stream_steps(dataset, state.step, total_steps, config.data.num_workers, pin_memory=world.device.type == "cuda")
        stopped_by = _take_steps(TrainingRun(config, data, world, engine, state, begun), stream)
    stop_world()
    if stopped_by:
        raise Stopped(stopped_by)


def _take_steps(run: TrainingRun, stream: Iterator[Batch]) -> int:
    """Trains on the stream's batches, evaluates and saves as the run says; the signal that stopped it, 0 at its end."""
    config, data, world, engine, total_steps = run.config, run.data, run.world, run.engine, run.total_steps
    every, stopped_by = config.train, 0
    tracking = Tracker(config.run_path, config, total_steps, asdict(config), world.is_main, run.state.step)
    with StopRequest(world) as stop, tracking as tracker:
        tracker.message(run.greeting())
        for notice in notices(engine.model.tower, data):
            tracker.message(notice)
        if total_steps == 0:  # a recommender that is counted, not trained
            counted = evaluate(engine.model, data, config, world, "validation")
            tracker.log(0, flat_metrics(counted.metrics, "validation/") | run.data_metrics(0, counted))
            run.save(0, counted.metrics)
        asked = time.perf_counter()
        for batch in stream:
            waited_s = time.perf_counter() - asked
            with run.meter.counting():
                step = engine.train_step(batch.to(world.device))
            run.meter.add(batch, step, waited_s)
            done, summary = batch.step + 1, None
            if run.has_diverged():
                tracker.log(done, run.metrics(done))
                run.give_up(done)
            stopped_by = stop.agreed() if done < total_steps else 0
            if run.due(done, every.log_every, every.evaluate_every, every.save_every) or stopped_by:
                tracker.log(done, run.metrics(done))
            if run.due(done, every.evaluate_every):
                found = evaluate(engine.model, data, config, world, "validation")
                summary = found.metrics
                tracker.log(done, flat_metrics(summary, "validation/") | run.data_metrics(done, found))
            if run.is_best(summary) or run.is_save_due(done) or stopped_by:
                run.save(done, summary)
            if stopped_by:
                tracker.message(
                    f"stopped after step {done} of {total_steps}, which is saved: the same command goes on from there"
                )
                break
            asked = time.perf_counter()
        else:
            test = evaluate_run(config, data, world, "test")
            run.account(test.bad_items, total_steps)
            tracker.log(total_steps, flat_metrics(test.metrics, "test/"))
            tracker.message(f"test {_words(test.metrics['all'])}; all figures: {config.run_path / RESULTS_FILE}")
    return stopped_by


def check_room_of_loader(config: Config, dataset: StepDataset, most_items: int, world: World) -> None:
    """Compare the shared memory that batches and evaluations will take on this machine with what there is.

    Raises:
        RuntimeError: it does not fit.
    """
    workers, inputs = config.data.num_workers, dataset.inputs
    ranked = -(-dataset.data.catalogue.size // world.size)
    steps = shared_bytes_of_steps(item_bytes(inputs), most_items, workers)
    chunks = shared_bytes_of_chunks(inputs, ranked, config.item.chunk, workers)  # the batches stay meanwhile
    check_shared_memory(steps + chunks, max(world.nodes))


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
    """Return the checkpoint that the run resumes from, if it has one, and the state that it begins in; collective.

    Raises:
        ValueError: the checkpoint is damaged, or the data set, the global batch, the seed or other settings are not the
            checkpoint's.
    """
    begin = TrainingState(0, config.seed, data.info.fingerprint, config.train.global_batch, settings=model_settings(config))
    path = from_main(lambda: checkpoint.newest(config.run_path))
    if path is None:
        return None, begin
    state = checkpoint.read_state(path)
    checkpoint.check_resumable(state, begin, path, config.resume.force)
    if not config.resume.force and not (config.run_path / CONFIG_FILE).exists():
        raise ValueError(
            f"{config.run_path} has checkpoints but no {CONFIG_FILE}, so that their settings cannot be compared with this "
            "command's. Restore the file, or set resume.force=true to continue with this command's settings."
        )
    check_same_run(config)
    return path, replace(begin, step=state.step)


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
