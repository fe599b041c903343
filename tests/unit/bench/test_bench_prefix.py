"""mlrec bench prefix: cached stages are not run again, and the step stays the same."""

import argparse
from dataclasses import replace

import pytest
import torch
from small_encoders import SMALL

from mlrec.bench import prefix
from mlrec.bench.made_up import MadeUpSteps, MediaPool
from mlrec.config import Config, ItemConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data
from mlrec.models.building import build_model
from mlrec.runtime.distributed import World


@pytest.fixture
def config(video_config: Config) -> Config:
    """A small run over videos that trains the top stage of a VideoMAE."""
    options = {"video/videomae": SMALL["video/videomae"]}
    item = ItemConfig(("video/videomae",), options, tuning="top", chunk=16)
    return replace(video_config, item=item)


def test_measure_prefix_cached_stages_are_not_run_again(
    config: Config, data: Data, world: World
) -> None:
    figures = prefix.measure_prefix(config, data, world, steps=2).as_json()
    plan = Plan(data.sequences, 0, 18, Owners((1,)))
    mean_items = (len(plan.step(1).items_U) + len(plan.step(2).items_U)) / 2
    assert figures["kept"]["videos_per_step"] == mean_items
    assert figures["all_stages"]["videos_per_step"] == mean_items
    flops = figures["flops_per_step"]
    assert figures["flops_ratio"] == flops["all_stages"] / flops["kept"] > 1.2
    assert len(figures["speedups"]) == 2
    assert figures["cpu_speedup"] > 0 and figures["item_bytes"] > 0


def test_step_with_cached_prefixes_ignores_media_and_has_the_same_loss(
    config: Config, data: Data, world: World
) -> None:
    model = build_model(config, data, 0)
    cache = model.tower.build_activation_cache(1 << 30, torch.float32, world.device)
    assert cache is not None
    plan = Plan(data.sequences, 0, 18, Owners((1,)))
    batch = MadeUpSteps(data, plan, 0, MediaPool(model.tower.specs), False, False)[0]
    loss = model(replace(batch, cached_O=torch.zeros_like(batch.valid_O)))
    cached_batch = prefix._with_marks(batch, cache)
    assert cached_batch.cached_O is not None and cached_batch.cached_O.all()
    for media in cached_batch.media.values():
        media.fill_(7)
    torch.testing.assert_close(model(cached_batch), loss, atol=1e-5, rtol=1e-5)


def test_measure_prefix_nothing_frozen_is_refused(config: Config, data: Data, world: World) -> None:
    fully_trained = replace(config, item=replace(config.item, tuning="full"))
    with pytest.raises(ValueError, match=r"item\.tuning=full"):
        prefix.measure_prefix(fully_trained, data, world, steps=1)
    with pytest.raises(ValueError, match="--steps is 0"):
        prefix.run(argparse.Namespace(config=[], steps=0))
