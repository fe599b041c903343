"""mlrec bench step: a training step on made-up media, its parts, and its share of the peak."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from mlrec.bench.made_up import MadeUpSteps, MediaPool
from mlrec.bench.measure import device_name, peak, reset_peak
from mlrec.bench.padded import RankPlan, encode_slots
from mlrec.bench.ranks import run_on_ranks
from mlrec.bench.result import Result, Row
from mlrec.bench.step_clock import PARTS, Encode, StepClock, StepFigures, StepTimes
from mlrec.config import Config
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.stream import Data, stream_steps
from mlrec.models.building import build_model, training_dtype
from mlrec.models.tower import ItemTower
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


@dataclass(frozen=True)
class PaddedFigures:
    """Figures of the padded baseline, measured in pairs with mlrec's steps."""

    figures: StepFigures
    speedups: list[float]
    """Seconds of the padded step divided by those of mlrec's step, per pair."""
    losses: list[tuple[float, float]]
    """Losses of mlrec's step and of the padded step, per pair."""
    cpu_speedup: float
    """CPU seconds of all padded steps divided by those of all mlrec's steps."""


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
    """Whether activation checkpointing was on."""
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
    padded: PaddedFigures | None
    """Figures of the padded baseline; None without --baseline padded."""

    @property
    def of_limit(self) -> float:
        """Share of the device's peak that a step reaches."""
        return self.flops_per_step / self.figures.step_s / self.limit_flops_per_s

    def as_json(self) -> dict[str, Any]:
        """Return the keys that --json prints."""
        keys = asdict(self)
        del keys["figures"], keys["padded"]
        keys |= asdict(self.figures)
        keys["wait_share"] = self.figures.seconds["wait"] / self.figures.step_s
        keys["of_limit"] = self.of_limit
        if self.padded is not None:
            keys["padded"] = asdict(self.padded.figures)
            keys["speedup"] = statistics.median(self.padded.speedups)
            keys["speedups"] = self.padded.speedups
            keys["losses"] = self.padded.losses
            keys["cpu_speedup"] = self.padded.cpu_speedup
        return keys


def run(options: argparse.Namespace) -> Result | None:
    """Measure, and return the result on rank 0; collective.

    Raises:
        ValueError: the configuration does not fit, as in run_on_ranks.
    """
    measure = partial(measure_step, steps=options.steps, padded=options.baseline is not None)
    return run_on_ranks(options, measure, _result)


def measure_step(config: Config, data: Data, world: World, steps: int, padded: bool) -> StepBench:
    """Measure `steps` steps after one to warm up; collective.

    With `padded`, each is followed by the baseline's step on the same global batch.

    Raises:
        ValueError: the recommender encodes the whole catalogue, for which there is no padded form.
    """
    global_batch = config.train.global_batch
    plan = Plan(data.sequences, config.seed, global_batch, data.owners(global_batch, world.nodes))
    model = build_model(config, data, world.rank)
    if padded and model.whole_catalogue:
        raise ValueError(
            f"--baseline padded cannot measure {config.recommender.name} with {config.loss.name}. "
            "They encode the whole catalogue in every step, not slots. Leave the option out"
        )
    pool = MediaPool(model.tower.specs)
    local_negatives = config.loss.negatives == "local"
    dataset = MadeUpSteps(data, plan, world.rank, pool, local_negatives, model.whole_catalogue)
    baseline = _PaddedSteps(data, plan, model.tower, world, global_batch)
    # The padded step encodes more items. Both steps hold their activations if the padded one can.
    if padded:
        most_items = baseline.most_slots(global_batch)
    else:
        most_items = plan.most_items(steps + 1, dataset.items_N)
    engine = build_engine(config, model, world, plan.steps_per_epoch, steps + 1, items=most_items)
    on_cuda = world.device.type == "cuda"
    stream = stream_steps(dataset, 0, steps + 1, config.data.num_workers, pin_memory=on_cuda)

    # All ranks take every step. The first one warms up, and it counts the arithmetic, because
    # the counter slows a step down.
    clock = StepClock(engine, world.device)
    with FlopCounter() as counter:
        clock.step(StepTimes(), stream)
    ours = StepTimes()
    padded_times = StepTimes()
    losses: list[tuple[float, float]] = []
    plan_s = 0.0
    peak_bytes = 0
    resident_bytes = 0
    for step in track(range(1, steps + 1), "measuring steps"):
        # The loader plans too, but in its workers, where this clock does not run.
        start_s = now(world.device)
        users_G = plan.step(step, dataset.items_N).users_G
        plan_s += now(world.device) - start_s
        resident_bytes = reset_peak(world.device)
        batch = clock.step(ours, stream)
        # Read before the padded step, whose peak is another.
        peak_bytes = max(peak_bytes, peak(world.device))
        ours.videos += len(batch.valid_O)
        if padded:
            # The last batch of an epoch has fewer users, and so fewer slots.
            encode = baseline.encode(baseline.most_slots(len(users_G)))
            batch = clock.step(padded_times, baseline.batch(step), encode)
            padded_times.videos += len(batch.users_B) * baseline.slots_per_user
            losses.append((ours.loss, padded_times.loss))

    return StepBench(
        global_batch=global_batch,
        ranks=world.size,
        steps=steps,
        encoders=list(config.item.encoders),
        precision=config.train.precision,
        parameters=engine.state.parameter_counts(),
        recomputes=model.tower.recomputes and model.tower.trained,
        figures=ours.reduce(world),
        plan_s=plan_s / steps,
        flops_per_step=counter.total,
        limit_flops_per_s=matrix_product_flops_per_s(world.device, training_dtype(config)),
        peak_bytes=peak_bytes,
        step_bytes=peak_bytes - resident_bytes,
        padded=_compare(ours, padded_times, losses, world) if padded else None,
    )


class _PaddedSteps:
    """Batches and encoding of the padded baseline."""

    def __init__(
        self, data: Data, plan: Plan, tower: ItemTower, world: World, global_batch: int
    ) -> None:
        # The split keeps two interactions of each user for validation and test.
        self.slots_per_user = data.info.split.train_length
        self._ranks = world.size
        self._tower = tower
        self._pool = MediaPool(tower.specs, world.device, floats=True)
        rank_plan = RankPlan(plan, global_batch, world.rank)
        # Each rank is alone with its users, and encodes media of its own pool on the device.
        self._dataset = MadeUpSteps(data, rank_plan, 0, None, local=True, whole_catalogue=False)

    def most_slots(self, users: int) -> int:
        """Return the slots of the rank with the most, when the ranks share `users` users."""
        return -(-users // self._ranks) * self.slots_per_user

    def batch(self, step: int) -> Iterator[Batch]:
        """Return a stream of one batch."""
        return iter([self._dataset[step]])

    def encode(self, most_slots: int) -> Encode:
        """Return the encoding of every slot, for ranks with at most `most_slots` slots."""
        return partial(encode_slots, self._tower, self._pool, most_slots)


def _compare(
    ours: StepTimes, padded: StepTimes, losses: list[tuple[float, float]], world: World
) -> PaddedFigures:
    """Return the baseline's figures and the speed-ups of the pairs; collective."""
    pairs = zip(ours.step_s, padded.step_s, strict=True)
    return PaddedFigures(
        figures=padded.reduce(world),
        speedups=[padded_s / our_s for our_s, padded_s in pairs],
        losses=losses,
        cpu_speedup=sum(padded.cpu_s) / sum(ours.cpu_s),
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
    if bench.padded is not None:
        columns["padded"] = bench.padded.figures
    rows: list[Row] = [("", *columns)]
    for label, name in TABLE_ROWS.items():
        rows.append((label, *[f"{getattr(side, name):,.2f}" for side in columns.values()]))
    rows.append(("seconds a step", *[f"{side.step_s:.3f}" for side in columns.values()]))
    for part in PARTS:
        shares = [f"{side.seconds[part] / side.step_s:.1%}" for side in columns.values()]
        rows.append((f"  {part}", *shares))
    return rows


def _facts(bench: StepBench, world: World) -> list[Row]:
    activations = "checkpointed per chunk" if bench.recomputes else "held for the backward pass"
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
    if bench.padded is not None:
        speedup = statistics.median(bench.padded.speedups)
        facts.append(("times as fast as padded, median of pairs", f"{speedup:.2f}"))
        if world.device.type == "cpu":
            facts.append(("times as fast in CPU seconds", f"{bench.padded.cpu_speedup:.2f}"))
    return facts
