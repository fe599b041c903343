"""mlrec bench prefix: a training step whose frozen stages were kept, beside the same step through all of them."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from mlrec.bench.made_up import MadeUpSteps, MediaPool
from mlrec.bench.measure import device_name
from mlrec.bench.ranks import run_on_ranks
from mlrec.bench.result import Result
from mlrec.bench.step import Clock, Side
from mlrec.config import Config
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.stream import Data
from mlrec.models.activation_cache import ActivationCache
from mlrec.models.building import build_model, training_dtype
from mlrec.runtime.distributed import World
from mlrec.runtime.flops import FlopCounter
from mlrec.train.engine import Engine


def run(options: argparse.Namespace) -> Result | None:
    """Measures; collective.

    Raises:
        ValueError: as in run_on_ranks, and where no frozen stage can be kept.
    """
    return run_on_ranks(options, partial(measure_prefix, steps=options.steps), _result)


def measure_prefix(config: Config, data: Data, world: World, steps: int) -> dict[str, Any]:
    """Figures of `steps` pairs of steps after one to warm up, on media in memory; collective.

    Raises:
        ValueError: no frozen stage can be kept.
    """
    plan = Plan(
        data.sequences,
        config.seed,
        config.train.global_batch,
        data.owners(config.train.global_batch, world.nodes),
    )
    model = build_model(config, data, world.rank)
    cache = model.tower.build_activation_cache(
        config.item.prefix_cache_bytes, training_dtype(config), world.device
    )
    if cache is None:
        raise ValueError(
            f"no frozen stage of {', '.join(config.item.encoders)} is kept with item.tuning={config.item.tuning} and "
            f"item.prefix_cache_bytes={config.item.prefix_cache_bytes}; item.tuning=top keeps all stages but the last"
        )
    pool = MediaPool(model.tower.specs)
    dataset = MadeUpSteps(
        data, plan, world.rank, pool, config.loss.negatives == "local", model.whole_catalogue
    )
    items = plan.most_items(steps + 1, dataset.items_N)
    engine = Engine(config, model, world, plan.steps_per_epoch, steps + 1, items=items)
    clock, encode, flops = Clock(engine, world.device), model.encode_owned, []
    sides = kept, all_stages = Side(), Side()

    def encode_all(batch: Batch) -> torch.Tensor:
        return encode(replace(batch, cached_O=None))

    for step in range(steps + 1):
        batch = dataset[step]
        # as in the first epoch, when nothing is kept yet
        clock.step(Side(), iter([replace(batch, cached_O=torch.zeros_like(batch.valid_O))]), encode)
        for side, given, encoder in (
            (kept, _spared(batch, cache), encode),
            (all_stages, batch, encode_all),
        ):
            if step == 0:
                with FlopCounter() as counter:
                    clock.step(Side(), iter([given]), encoder)
                flops.append(counter.total)
                continue
            clock.step(side, iter([given]), encoder)
            side.videos += len(given.valid_O)
    found = {
        name: side.summed(world) for name, side in zip(("kept", "all_stages"), sides, strict=True)
    }
    ratios = [b / a for a, b in zip(kept.step_s, all_stages.step_s, strict=True)]
    return found | {
        "global_batch": config.train.global_batch,
        "ranks": world.size,
        "steps": steps,
        "item_bytes": cache.item_bytes,
        "flops_per_step": dict(zip(("kept", "all_stages"), flops, strict=True)),
        "speedup": statistics.median(ratios),
        "speedups": ratios,
        "cpu_speedup": sum(all_stages.cpu_s) / sum(kept.cpu_s),
        "flops_ratio": flops[1] / flops[0],
    }


def _spared(batch: Batch, cache: ActivationCache) -> Batch:
    """The batch as the stream gives it from the second epoch on: without the media of the items whose prefixes are kept."""
    cached_O = cache.has(batch.items_O)
    media = {
        spec: tensor[~cached_O] if spec in cache.items.inputs else tensor
        for spec, tensor in batch.media.items()
    }
    return replace(batch, media=media, cached_O=cached_O)


def _result(config: Config, world: World, figures: dict[str, Any]) -> Result:
    names = {"kept": "stages kept", "all_stages": "all stages run"}
    rows = [("", *names.values())]
    rows.append(("seconds a step", *(f"{figures[name]['step_s']:.3f}" for name in names)))
    rows.append(("videos/s", *(f"{figures[name]['videos_per_s']:,.2f}" for name in names)))
    rows.append(
        (
            "GFLOP a step on a rank",
            *(f"{figures['flops_per_step'][name] / 1e9:,.1f}" for name in names),
        )
    )
    facts = [
        ("", ""),
        ("times as fast, median of pairs", f"{figures['speedup']:.2f}"),
        ("the same in arithmetic: the limit", f"{figures['flops_ratio']:.2f}"),
        ("kept of an item", f"{figures['item_bytes'] / 1e6:,.2f} MB"),
    ]
    if world.device.type == "cpu":
        facts.insert(
            2,
            (
                "the same in seconds of CPU, free of other work on the cores",
                f"{figures['cpu_speedup']:.2f}",
            ),
        )
    measured = (
        f"training step: {', '.join(config.item.encoders)}, item.tuning={config.item.tuning}, {config.recommender.name}, global "
        f"batch {config.train.global_batch}, {config.train.precision}, media in memory"
    )
    return Result("prefix", measured, device_name(world.device, world.size), figures, [rows, facts])
