"""mlrec bench prefix: a training step with cached prefixes, next to one through all stages."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from mlrec.bench.made_up import MadeUpSteps, MediaPool
from mlrec.bench.measure import device_name
from mlrec.bench.ranks import run_on_ranks
from mlrec.bench.result import Result, Row
from mlrec.bench.step_clock import Encode, StepClock, StepFigures, StepTimes
from mlrec.config import Config
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.stream import Data
from mlrec.models.activation_cache import ActivationCache
from mlrec.models.building import build_model, training_dtype
from mlrec.runtime.distributed import World
from mlrec.runtime.flops import FlopCounter
from mlrec.train.engine import build_engine


@dataclass(frozen=True)
class PrefixBench:
    """What `mlrec bench prefix` measured."""

    cached: StepFigures
    """Figures of steps that start from cached prefixes."""
    all_stages: StepFigures
    """Figures of the same steps through all stages."""
    global_batch: int
    ranks: int
    steps: int
    item_bytes: int
    """Bytes that the activation cache holds of one item."""
    cached_flops: int
    """Floating-point operations of a step that starts from cached prefixes, on this rank."""
    all_stages_flops: int
    """Floating-point operations of a step through all stages, on this rank."""
    speedups: list[float]
    """Seconds through all stages divided by those with cached prefixes, per pair of steps."""
    cpu_speedup: float
    """The same ratio for the CPU seconds of all steps."""

    @property
    def speedup(self) -> float:
        """Median of the pairs' speed-ups."""
        return statistics.median(self.speedups)

    @property
    def flops_ratio(self) -> float:
        """Speed-up that the arithmetic allows."""
        return self.all_stages_flops / self.cached_flops

    def as_json(self) -> dict[str, Any]:
        """Return the keys that --json prints."""
        # "kept" are the steps with cached prefixes. Programs read these keys, so that they stay.
        return {
            "kept": asdict(self.cached),
            "all_stages": asdict(self.all_stages),
            "global_batch": self.global_batch,
            "ranks": self.ranks,
            "steps": self.steps,
            "item_bytes": self.item_bytes,
            "flops_per_step": {"kept": self.cached_flops, "all_stages": self.all_stages_flops},
            "speedup": self.speedup,
            "speedups": self.speedups,
            "cpu_speedup": self.cpu_speedup,
            "flops_ratio": self.flops_ratio,
        }


def run(options: argparse.Namespace) -> Result | None:
    """Measure, and return the result on rank 0; collective.

    Raises:
        ValueError: no frozen stage can be cached, or the configuration does not fit.
    """
    return run_on_ranks(options, partial(measure_prefix, steps=options.steps), _result)


def measure_prefix(config: Config, data: Data, world: World, steps: int) -> PrefixBench:
    """Measure `steps` pairs of steps after one to warm up, on media in memory; collective.

    Raises:
        ValueError: no frozen stage can be cached.
    """
    global_batch = config.train.global_batch
    plan = Plan(data.sequences, config.seed, global_batch, data.owners(global_batch, world.nodes))
    model = build_model(config, data, world.rank)
    cache = model.tower.build_activation_cache(
        config.item.prefix_cache_bytes, training_dtype(config), world.device
    )
    if cache is None:
        raise ValueError(
            f"Cannot cache a frozen stage of {', '.join(config.item.encoders)} with "
            f"item.tuning={config.item.tuning} and "
            f"item.prefix_cache_bytes={config.item.prefix_cache_bytes}. "
            "Set item.tuning=top, which freezes all stages but the last"
        )
    pool = MediaPool(model.tower.specs)
    local_negatives = config.loss.negatives == "local"
    dataset = MadeUpSteps(data, plan, world.rank, pool, local_negatives, model.whole_catalogue)
    most_items = plan.most_items(steps + 1, dataset.items_N)
    engine = build_engine(config, model, world, plan.steps_per_epoch, steps + 1, items=most_items)
    clock = StepClock(engine, world.device)

    # The batch has media of all items. Without marks of cached ones, no stage is skipped.
    def encode_all(batch: Batch) -> torch.Tensor:
        return model.encode_owned(replace(batch, cached_O=None))

    def fill_cache(batch: Batch) -> None:
        # As in the first epoch, when nothing is cached yet.
        nothing_cached = replace(batch, cached_O=torch.zeros_like(batch.valid_O))
        clock.step(StepTimes(), iter([nothing_cached]))

    # The pair on the first batch warms up and counts the arithmetic.
    first_batch = dataset[0]
    fill_cache(first_batch)
    cached_flops = _count_flops(clock, _with_marks(first_batch, cache), None)
    all_stages_flops = _count_flops(clock, first_batch, encode_all)

    cached = StepTimes()
    all_stages = StepTimes()
    # All ranks take every step. Steps of a pair follow each other, so that a change in the
    # machine's speed affects both alike.
    for step in range(1, steps + 1):
        batch = dataset[step]
        # The step that fills the cache is not measured.
        fill_cache(batch)
        clock.step(cached, iter([_with_marks(batch, cache)]))
        clock.step(all_stages, iter([batch]), encode_all)

    pairs = zip(cached.work_s, all_stages.work_s, strict=True)
    return PrefixBench(
        cached=cached.reduce(world),
        all_stages=all_stages.reduce(world),
        global_batch=global_batch,
        ranks=world.size,
        steps=steps,
        item_bytes=cache.item_bytes,
        cached_flops=cached_flops,
        all_stages_flops=all_stages_flops,
        speedups=[all_s / cached_s for cached_s, all_s in pairs],
        cpu_speedup=sum(all_stages.cpu_s) / sum(cached.cpu_s),
    )


def _count_flops(clock: StepClock, batch: Batch, encode: Encode | None) -> int:
    """Take a step and return its floating-point operations on this rank."""
    with FlopCounter() as counter:
        clock.step(StepTimes(), iter([batch]), encode)
    flops: int = counter.total
    return flops


def _with_marks(batch: Batch, cache: ActivationCache) -> Batch:
    """Return the batch with its cached items marked, as the loader does from the second epoch on.

    The media that the loader would skip are there, and the item tower ignores them.
    """
    return replace(batch, cached_O=cache.has(batch.items_O))


def _result(config: Config, world: World, bench: PrefixBench) -> Result:
    cached = bench.cached
    all_stages = bench.all_stages
    cached_gflop = f"{bench.cached_flops / 1e9:,.1f}"
    all_stages_gflop = f"{bench.all_stages_flops / 1e9:,.1f}"
    rows: list[Row] = [
        ("", "prefixes cached", "all stages"),
        ("seconds a step", f"{cached.step_s:.3f}", f"{all_stages.step_s:.3f}"),
        ("videos/s", f"{cached.videos_per_s:,.2f}", f"{all_stages.videos_per_s:,.2f}"),
        ("GFLOP a step on a rank", cached_gflop, all_stages_gflop),
    ]
    facts: list[Row] = [("", ""), ("times as fast, median of pairs", f"{bench.speedup:.2f}")]
    # On CUDA the host mostly waits, and its CPU seconds say nothing.
    if world.device.type == "cpu":
        facts.append(("times as fast in CPU seconds", f"{bench.cpu_speedup:.2f}"))
    facts.append(("times less arithmetic: the limit", f"{bench.flops_ratio:.2f}"))
    facts.append(("cached prefix of an item", f"{bench.item_bytes / 1e6:,.2f} MB"))
    measured = (
        f"training step: {', '.join(config.item.encoders)}, item.tuning={config.item.tuning}, "
        f"{config.recommender.name}, global batch {bench.global_batch}, "
        f"{config.train.precision}, media in memory"
    )
    device = device_name(world.device, world.size)
    return Result("prefix", measured, device, bench.as_json(), [rows, facts])
