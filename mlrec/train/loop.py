"""The training loop. Start it with `mlrec train`, `deepspeed --module mlrec.train`, or `torchrun -m mlrec.train`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.config.run_files import RESULTS_FILE
from mlrec.data.catalogue_pass import shared_bytes_of_chunks
from mlrec.data.decode import item_bytes
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.shared_buffers import check_shared_memory, shared_bytes_of_steps
from mlrec.data.stream import StepDataset, open_data, stream_steps
from mlrec.evaluation.evaluate import evaluate, evaluate_run, flat_metrics, oracle_of
from mlrec.models.building import build_model, training_dtype
from mlrec.models.notices import notices
from mlrec.models.registry import check_rows
from mlrec.runs.lock import run_lock
from mlrec.runs.run import check_place, find_state
from mlrec.runs.tracker import Tracker
from mlrec.runs.wandb_run import wandb_mode
from mlrec.runtime.distributed import World, from_main, start_world, stop_world
from mlrec.runtime.ending import Stopped
from mlrec.runtime.stop_request import StopRequest
from mlrec.train.engine import Engine
from mlrec.train.training_run import TrainingRun
from mlrec.train.warm_start import encoders_to_restore, keep_encoder_files, start_from


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
    with run_lock(
        config.run_path, world.is_main
    ):  # before its checkpoints are read, which another process may add and remove
        resumed, state = find_state(config, data)
        if state.step > total_steps:
            raise ValueError(
                f"{config.run_path} has done {state.step} steps, and train.duration={config.train.duration!r} is {total_steps}; "
                "give the new run another name or run_dir, or make it longer"
            )
        model = build_model(config, data, world.rank, encoders_to_restore(config, resumed))
        begun = start_from(config, data, model) if resumed is None else ""
        from_main(lambda: keep_encoder_files(config, model, resumed))
        cache = model.tower.build_activation_cache(
            config.item.prefix_cache_bytes, training_dtype(config), world.device
        )
        local_negatives = config.loss.negatives == "local"
        dataset = StepDataset(
            data,
            plan,
            world.rank,
            model.tower.specs,
            local_negatives,
            model.whole_catalogue,
            cached_items=cache.items if cache else None,
        )
        items = plan.most_items(total_steps, dataset.items_N)
        check_room_of_loader(config, dataset, items, world)
        engine = Engine(config, model, world, plan.steps_per_epoch, total_steps, resumed, items)
        stream = stream_steps(
            dataset,
            state.step,
            total_steps,
            config.data.num_workers,
            pin_memory=world.device.type == "cuda",
        )
        stopped_by = _take_steps(TrainingRun(config, data, world, engine, state, begun), stream)
    stop_world()
    if stopped_by:
        raise Stopped(stopped_by)


def _take_steps(run: TrainingRun, stream: Iterator[Batch]) -> int:
    """Trains on the stream's batches, evaluates and saves as the run says; the signal that stopped it, 0 at its end."""
    config, data, world, engine, total_steps = (
        run.config,
        run.data,
        run.world,
        run.engine,
        run.total_steps,
    )
    every, stopped_by = config.train, 0
    tracking = Tracker(
        config.run_path, config, total_steps, asdict(config), world.is_main, run.state.step
    )
    with StopRequest(world) as stop, tracking as tracker:
        tracker.message(run.greeting())
        for notice in notices(engine.model.tower, data):
            tracker.message(notice)
        if total_steps == 0:  # a recommender that is counted, not trained
            counted = evaluate(engine.model, data, config, world, "validation")
            tracker.log(
                0, flat_metrics(counted.metrics, "validation/") | run.data_metrics(0, counted)
            )
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
                tracker.log(
                    done, flat_metrics(summary, "validation/") | run.data_metrics(done, found)
                )
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
            tracker.message(
                f"test {_words(test.metrics['all'])}; all figures: {config.run_path / RESULTS_FILE}"
            )
    return stopped_by


def check_room_of_loader(
    config: Config, dataset: StepDataset, most_items: int, world: World
) -> None:
    """Compare the shared memory that batches and evaluations will take on this machine with what there is.

    Raises:
        RuntimeError: it does not fit.
    """
    workers, inputs = config.data.num_workers, dataset.inputs
    ranked = -(-dataset.data.catalogue.size // world.size)
    steps = shared_bytes_of_steps(item_bytes(inputs), most_items, workers)
    chunks = shared_bytes_of_chunks(
        inputs, ranked, config.item.chunk, workers
    )  # the batches stay meanwhile
    check_shared_memory(steps + chunks, max(world.nodes))


def _words(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "users")
