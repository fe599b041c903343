"""mlrec bench step: a training step on made-up media, its parts, and its share of the peak."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

from mlrec.bench.made_up import MadeUpSteps, MediaPool
from mlrec.bench.measure import device_name, peak, reset_peak
from mlrec.bench.padded import PaddedBaseline
from mlrec.bench.plain import PlainBaseline
from mlrec.bench.ranks import run_on_ranks
from mlrec.bench.result import Result, Row
from mlrec.bench.step_clock import PARTS, StepClock, StepFigures, StepTimes
from mlrec.config import Config
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.step_stream import stream_steps
from mlrec.data.stream import Data
from mlrec.models.building import build_model, training_dtype
from mlrec.models.chunk_choice import ChunkChoice
from mlrec.models.recommender import Recommender
from mlrec.runtime.distributed import World
from mlrec.runtime.flops import FlopCounter, matrix_product_flops_per_s, now
from mlrec.runtime.progress import track
from mlrec.runtime.units import rounded_size
from mlrec.train.engine import build_engine

TABLE_ROWS = {
    "users/s": "users_per_s",
    "videos/s": "videos_per_s",
    "videos encoded a step": "videos_per_step",
    "slots per video": "slots_per_video",
}
"""Labels of the table and the figures that they show."""


class Baseline(Protocol):
    """Another way to take mlrec's steps. It is built before the engine and measured in pairs."""

    name: ClassVar[str]
    most_items: int
    """Most items that a step encodes on this rank, for activation checkpointing."""

    def step(self, clock: StepClock, times: StepTimes, batch: Batch) -> None:
        """Take one step on the global batch of `batch`, and add its times to `times`.

        Args:
            clock: the clock of mlrec's steps, with their engine.
            batch: batch of mlrec's step on this rank, on the device.
        """


BASELINES: dict[str, Callable[[Config, Data, Plan, Recommender, World], Baseline]] = {
    "padded": PaddedBaseline,
    "plain": PlainBaseline,
}
"""Constructors of baselines by name. They take (config, data, plan, model, world)."""


@dataclass(frozen=True)
class BaselineFigures:
    """Figures of a baseline, measured in pairs with mlrec's steps. Ratios leave out waiting."""

    name: str
    figures: StepFigures
    speedups: list[float]
    """Seconds of the baseline's step divided by those of mlrec's step, per pair."""
    losses: list[tuple[float, float]]
    """Losses of mlrec's step and of the baseline's step, per pair."""
    cpu_speedup: float
    """CPU seconds of all steps of the baseline divided by those of all mlrec's steps."""

    @property
    def speedup(self) -> float:
        """Median of the pairs' speed-ups."""
        return statistics.median(self.speedups)

    def as_json(self) -> dict[str, Any]:
        """Return the keys that --json prints."""
        return {
            self.name: asdict(self.figures),
            "speedup": self.speedup,
            "speedups": self.speedups,
            "losses": self.losses,
            "cpu_speedup": self.cpu_speedup,
            # The same ratios, of mlrec's seconds divided by the baseline's.
            "ratio": 1 / self.speedup,
            "cpu_ratio": 1 / self.cpu_speedup,
        }


@dataclass(frozen=True)
class StepBench:
    """What `mlrec bench step` measured."""

    global_batch: int
    ranks: int
    steps: int
    """Measured steps."""
    encoders: list[str]
    precision: str
    parameters: dict[str, int]
    """Counts of parameters by kind."""
    recomputes: bool
    """Whether the activations of some chunks were recomputed."""
    chunks: ChunkChoice | None
    """How the items were encoded."""
    figures: StepFigures
    plan_s: float
    """Mean seconds to plan a step."""
    flops_per_step: int
    """Floating-point operations of a step on this rank."""
    limit_flops_per_s: float
    """Peak of the device in a product of square matrices."""
    peak_bytes: int
    """Peak memory of this rank."""
    step_bytes: int
    """Part of the peak memory that a step adds to what was resident before it."""
    baseline: BaselineFigures | None
    """Figures of the baseline; None without --baseline."""

    @property
    def of_limit(self) -> float:
        """Share of the device's peak that a step reaches."""
        return self.flops_per_step / self.figures.step_s / self.limit_flops_per_s

    def as_json(self) -> dict[str, Any]:
        """Return the keys that --json prints."""
        keys = asdict(self)
        del keys["figures"], keys["baseline"]
        keys |= asdict(self.figures)
        keys["wait_share"] = self.figures.seconds["wait"] / self.figures.step_s
        keys["of_limit"] = self.of_limit
        if self.baseline is not None:
            keys |= self.baseline.as_json()
        return keys


def run(options: argparse.Namespace) -> Result | None:
    """Measure, and return the result on rank 0; collective.

    Raises:
        ValueError: the configuration does not fit, as in run_on_ranks.
    """
    measure = partial(measure_step, steps=options.steps, baseline=options.baseline)
    return run_on_ranks(options, measure, _result)


def measure_step(
    config: Config, data: Data, world: World, steps: int, baseline: str | None
) -> StepBench:
    """Measure `steps` steps after one to warm up; collective.

    With a baseline, each is followed by the baseline's step on the same global batch.

    Raises:
        ValueError: the baseline has no form of this configuration.
    """
    global_batch = config.train.global_batch
    plan = Plan(data.sequences, config.seed, global_batch, data.owners(global_batch, world.nodes))
    model = build_model(config, data, world.rank)
    other: Baseline | None = None
    if baseline is not None:
        other = BASELINES[baseline](config, data, plan, model, world)
    pool = MediaPool(model.tower.specs)
    local_negatives = config.loss.negatives == "local"
    dataset = MadeUpSteps(data, plan, world.rank, pool, local_negatives, model.whole_catalogue)
    dataset_items = most_items = plan.most_items(steps + 1, dataset.items_N)
    if other is not None:
        # Both steps hold their activations if the one that encodes more items can.
        most_items = max(most_items, other.most_items)
    engine = build_engine(config, model, world, plan.steps_per_epoch, steps + 1, items=most_items)
    on_cuda = world.device.type == "cuda"
    workers = config.data.num_workers
    stream = stream_steps(dataset, 0, steps + 1, workers, on_cuda, dataset_items)

    # All ranks take every step. The first one warms up, and it counts the arithmetic, because
    # the counter slows a step down.
    clock = StepClock(engine, world.device)
    with FlopCounter() as counter:
        batch = clock.step(StepTimes(), stream)
    if other is not None:
        other.step(clock, StepTimes(), batch)
    ours = StepTimes()
    others = StepTimes()
    losses: list[tuple[float, float]] = []
    plan_s = 0.0
    peak_bytes = 0
    resident_bytes = 0
    for step in track(range(1, steps + 1), "measuring steps"):
        # The loader plans too, but in its workers, where this clock does not run.
        start_s = now(world.device)
        plan.step(step, dataset.items_N)
        plan_s += now(world.device) - start_s
        resident_bytes = reset_peak(world.device)
        batch = clock.step(ours, stream)
        # Read before the baseline's step, whose peak is another.
        peak_bytes = max(peak_bytes, peak(world.device))
        if other is not None:
            other.step(clock, others, batch)
            losses.append((ours.loss, others.loss))

    return StepBench(
        global_batch=global_batch,
        ranks=world.size,
        steps=steps,
        encoders=list(config.item.encoders),
        precision=config.train.precision,
        parameters=engine.state.parameter_counts(),
        recomputes=model.tower.held_chunks is not None and model.tower.trained,
        chunks=engine.chunks,
        figures=ours.reduce(world),
        plan_s=plan_s / steps,
        flops_per_step=counter.total,
        limit_flops_per_s=matrix_product_flops_per_s(world.device, training_dtype(config)),
        peak_bytes=peak_bytes,
        step_bytes=peak_bytes - resident_bytes,
        baseline=None if other is None else _compare(other.name, ours, others, losses, world),
    )


def _compare(
    name: str,
    ours: StepTimes,
    others: StepTimes,
    losses: list[tuple[float, float]],
    world: World,
) -> BaselineFigures:
    """Return the baseline's figures and the speed-ups of the pairs; collective."""
    pairs = zip(ours.work_s, others.work_s, strict=True)
    return BaselineFigures(
        name=name,
        figures=others.reduce(world),
        speedups=[other_s / our_s for our_s, other_s in pairs],
        losses=losses,
        cpu_speedup=sum(others.cpu_s) / sum(ours.cpu_s),
    )


def _result(config: Config, world: World, bench: StepBench) -> Result:
    measured = (
        f"training step: {', '.join(bench.encoders)}, {config.recommender.name}, "
        f"global batch {bench.global_batch}, {bench.precision}, media in memory"
    )
    tables = [_speeds(bench), _facts(bench, world)]
    device = device_name(world.device, world.size)
    return Result("step", measured, device, bench.as_json(), tables)


def _speeds(bench: StepBench) -> list[Row]:
    """Return the table of speeds and parts, with a column for the baseline if it was measured."""
    columns = {"mlrec": bench.figures}
    if bench.baseline is not None:
        columns[bench.baseline.name] = bench.baseline.figures
    rows: list[Row] = [("", *columns)]
    for label, name in TABLE_ROWS.items():
        rows.append((label, *[f"{getattr(side, name):,.2f}" for side in columns.values()]))
    rows.append(("seconds a step", *[f"{side.step_s:.3f}" for side in columns.values()]))
    for part in PARTS:
        shares = [f"{side.seconds[part] / side.step_s:.1%}" for side in columns.values()]
        rows.append((f"  {part}", *shares))
    return rows


def _facts(bench: StepBench, world: World) -> list[Row]:
    activations = "held for the backward pass"
    if bench.recomputes and bench.chunks is not None:
        held = bench.chunks.held_chunks
        activations = f"of {held} of {bench.chunks.chunks} chunks held, the others' recomputed"
    memory = f"{rounded_size(bench.peak_bytes)}, {rounded_size(bench.step_bytes)} in the step"
    facts: list[Row] = [
        ("", ""),
        ("planning, while the device is at another step", f"{1e3 * bench.plan_s:.1f} ms"),
        ("activations", activations),
        ("arithmetic of a step on a rank", f"{bench.flops_per_step / 1e9:,.1f} GFLOP"),
        ("peak of a matrix product", f"{bench.limit_flops_per_s / 1e9:,.1f} GFLOP/s"),
        ("share of the peak", f"{bench.of_limit:.1%}"),
        ("peak memory of a rank", memory),
    ]
    if bench.baseline is not None:
        name = bench.baseline.name
        facts.append((f"times as fast as {name}, median of pairs", f"{bench.baseline.speedup:.2f}"))
        if world.device.type == "cpu":
            cpu_speedup = bench.baseline.cpu_speedup
            facts.append(("times as fast in CPU seconds", f"{cpu_speedup:.2f}"))
            facts.append((f"mlrec's CPU seconds / {name}'s", f"{1 / cpu_speedup:.2f}"))
    return facts
