"""The training loop.

Start it with `mlrec train`, `deepspeed --module mlrec.train`, or `torchrun -m mlrec.train`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.config.metric_names import FINAL_PREFIXES
from mlrec.config.run_files import RESULTS_FILE
from mlrec.data.decode_on import check_decode_on, delivered_inputs
from mlrec.data.host_memory import check_host_memory, loader_bytes
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.step_stream import stream_steps
from mlrec.data.stream import Data, StepDataset, open_data
from mlrec.evaluation.evaluate import evaluate, flat_metrics
from mlrec.evaluation.results import Summary
from mlrec.evaluation.run_evaluation import evaluate_run, oracle_of
from mlrec.models.building import build_model, training_dtype
from mlrec.models.notices import notices
from mlrec.models.precision import precision_notices, resolve_precision
from mlrec.models.registry import check_rows
from mlrec.runs.checkpoint import TrainingState
from mlrec.runs.compatibility import new_run
from mlrec.runs.lock import run_lock
from mlrec.runs.run import check_place, find_state, last_step_of
from mlrec.runs.tracker import Tracker, check_tracking
from mlrec.runtime.distributed import World, from_main, start_world, stop_world
from mlrec.runtime.ending import Stopped
from mlrec.runtime.printable import counted
from mlrec.runtime.stop_request import StopRequest
from mlrec.train.training_run import TrainingRun
from mlrec.train.validations import choice_in_words
from mlrec.train.warm_start import encoders_to_restore, keep_encoder_files, start_from


def train(config: Config) -> None:
    """Train a run to its end, from its newest checkpoint if it has one, and rank the best weights.

    Raises:
        ValueError: configuration, data set and checkpoints do not fit together, or a
            tracker of the run is unavailable.
        RuntimeError: training diverged, or too many items could not be read.
        Stopped: a rank got a stop signal; the step after which all ranks stopped is saved.
    """
    # First what needs neither data nor other ranks, so that a slip is reported at once.
    check_rows(config)
    check_place(config)
    check_tracking(config.tracking)

    # Every rank, from here to the end of the function.
    world = start_world()
    config = resolve_precision(config, world.device)
    check_decode_on(config.data, world.device)
    data = open_data(config.data)
    oracle_of(data)
    owners = data.owners(config.train.global_batch, world.nodes)
    plan = Plan(data.sequences, config.seed, config.train.global_batch, owners)
    total_steps = steps_of(config.train.duration, plan.steps_per_epoch, 0)

    # The lock comes before reading checkpoints: another process may add and remove them.
    with run_lock(config.run_path, world.is_main):
        resumed, state = find_state(config, data)
        if state.step > total_steps:
            raise ValueError(
                f"{config.run_path} has done {counted(state.step, 'step')}, more than the "
                f"{total_steps:,} of train.duration={config.train.duration!r}. "
                f"To start over, {new_run(config)}. "
                "To continue this run, set a longer train.duration"
            )
        run, batches = _build(config, data, world, plan, total_steps, resumed, state)
        stop_signal = _train_to_end(run, batches)
    stop_world()
    if stop_signal:
        raise Stopped(stop_signal)


def _build(
    config: Config,
    data: Data,
    world: World,
    plan: Plan,
    total_steps: int,
    resumed: Path | None,
    state: TrainingState,
) -> tuple[TrainingRun, Iterator[Batch]]:
    """Build model, input path and engine; collective."""
    # DeepSpeed takes seconds to import, and mistakes in a configuration are reported before.
    from mlrec.train.engine import build_engine

    # Weights come from the run's checkpoint, else from train.start_from, else pretrained or random.
    model = build_model(config, data, world.rank, encoders_to_restore(config, resumed))
    model.tower.specs = delivered_inputs(model.tower.specs, data)
    warm_start = start_from(config, data, model) if resumed is None else None

    # The loader's workers share the cache's table of items, so the cache comes before the dataset.
    cache = model.tower.build_activation_cache(
        config.item.prefix_cache_bytes, training_dtype(config), world.device
    )
    dataset = StepDataset(
        data,
        plan,
        world.rank,
        model.tower.specs,
        local_negatives=config.loss.negatives == "local",
        whole_catalogue=model.whole_catalogue,
        cached_items=cache.items if cache else None,
    )
    most_items = plan.most_items(total_steps, dataset.items_N)

    engine = build_engine(
        config, model, world, plan.steps_per_epoch, total_steps, resumed, most_items
    )
    # After the engine has chosen the chunks.
    check_room_of_loader(config, dataset, most_items, model.tower.chunk, world)
    # Only now, because a run that is refused above leaves no folder behind.
    from_main(lambda: keep_encoder_files(config, model, resumed))
    pin_memory = world.device.type == "cuda"
    workers = config.data.num_workers
    last_step = last_step_of(config, state, total_steps)
    batches = stream_steps(dataset, state.step, last_step, workers, pin_memory, most_items)
    return TrainingRun(config, data, world, engine, state, warm_start), batches


def _train_to_end(run: TrainingRun, batches: Iterator[Batch]) -> int:
    """Train, then rank the best checkpoint; return the signal that stopped the run, or 0."""
    config = run.config
    # Every rank has a tracker; only that of rank 0 writes.
    tracking = Tracker(
        config.run_path,
        config,
        run.total_steps,
        asdict(config),
        run.world.is_main,
        run.state.step,
    )
    with StopRequest(run.world) as stop, tracking as tracker:
        tracker.message(run.greeting())
        for notice in notices(run.engine.model.tower, run.data):
            tracker.message(notice)
        for notice in precision_notices(config, run.world.device):
            tracker.message(notice)
        if run.total_steps == 0:
            # A recommender that is counted, not trained: its only checkpoint is that of step 0.
            summary = _validate(run, tracker, 0)
            run.save(0, summary)
        stop_signal = _take_steps(run, batches, tracker, stop)
        if not stop_signal:
            if run.last_step < run.total_steps:
                tracker.message(run.validations.in_words(run.last_step, run.total_steps))
            _rank_best(run, tracker)
    return stop_signal


def _take_steps(
    run: TrainingRun, batches: Iterator[Batch], tracker: Tracker, stop: StopRequest
) -> int:
    """Take the run's remaining steps; return the signal that stopped it, or 0 at its end.

    The end comes early when train.patience runs out.

    Every rank is at the same line of a step: all calls on `run` and `stop` may be collective, and
    their conditions are the same on all ranks.
    """
    every = run.config.train
    asked_s = time.perf_counter()
    for batch in batches:
        waited_s = time.perf_counter() - asked_s
        with run.meter.counting():
            step = run.engine.train_step(batch.to(run.world.device))
        run.meter.add(batch, step, waited_s)
        done = batch.step + 1

        # Every rank has counted the same skipped steps: all log, set aside and raise together.
        if run.has_diverged():
            tracker.log(done, run.metrics(done))
            run.give_up(done)

        # A signal that one rank got stops all of them after the same step. The last step needs no
        # exchange: the run ends anyway.
        stop_signal = stop.agreed() if done < run.total_steps else 0

        # Once in a while, before every evaluation and save, and at the end: rank 0 logs the sums.
        if run.due(done, every.log_every, every.evaluate_every, every.save_every) or stop_signal:
            tracker.log(done, run.metrics(done))

        # Once in a while, and at the end: each rank ranks its share of the users.
        summary = _validate(run, tracker, done) if run.due(done, every.evaluate_every) else None

        # When validation is the best so far, once in a while, and before a stop: each rank writes
        # its share of the tensors.
        is_best = run.validations.is_best(summary)
        stops_early = run.is_stopping_early(done)
        if is_best or run.is_save_due(done) or stop_signal or stops_early:
            run.save(done, summary)

        if stop_signal:
            tracker.message(
                f"stopped after step {done} of {run.total_steps}, which is saved: "
                "run the same command again to resume"
            )
            return stop_signal
        if stops_early:
            run.last_step = done
            return 0
        asked_s = time.perf_counter()
    return 0


def _validate(run: TrainingRun, tracker: Tracker, done: int) -> Summary:
    """Rank the validation split with the current weights, and log it; collective.

    With train.ema these are the averaged weights, which the checkpoint offers to other commands.
    """
    with run.engine.state.ready_to_evaluate():
        evaluation = evaluate(
            run.engine.model, run.data, run.config, run.world, "validation", sampled=True
        )
    metrics = flat_metrics(evaluation.metrics, "validation/")
    if evaluation.is_sample:
        metrics["validation/users"] = evaluation.metrics["all"]["users"]
    # The time of the ranking is not that of the next steps.
    run.meter.restart_clock()
    tracker.log(done, metrics | run.data_metrics(done, evaluation))
    return evaluation.metrics


def _rank_best(run: TrainingRun, tracker: Tracker) -> None:
    """Rank evaluate.final_split with the run's best checkpoint, and log it; collective."""
    split = run.config.evaluate.final_split
    results = evaluate_run(run.config, run.data, run.world, split)
    run.record_failures(results.bad_items, run.last_step)
    tracker.log(run.last_step, flat_metrics(results.metrics, FINAL_PREFIXES[split]))
    figures = _in_words(results.metrics["all"])
    # rank 0 has the log, and prints
    if run.world.is_main:
        choice = choice_in_words(run.config, results.step)
        file = run.config.run_path / RESULTS_FILE
        tracker.message(f"{split}: {choice}: {figures}; all figures: {file}")


def check_room_of_loader(
    config: Config, dataset: StepDataset, most_items: int, chunk: int, world: World
) -> None:
    """Check that this machine has memory for the loaders' steps and evaluations.

    Raises:
        RuntimeError: it does not.
    """
    # The media of the next steps stay in memory during an evaluation.
    rank_bytes = loader_bytes(
        dataset.inputs,
        most_items,
        config.data.num_workers,
        dataset.data.catalogue.size,
        world.size,
        chunk,
        on_gpu=world.device.type == "cuda",
    )
    check_host_memory(rank_bytes, max(world.nodes))


def _in_words(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "users")
