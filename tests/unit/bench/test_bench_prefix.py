"""mlrec bench prefix: the step that goes on from kept prefixes is the same step, with less arithmetic."""

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
    options = {"video/videomae": SMALL["video/videomae"]}
    return replace(
        video_config, item=ItemConfig(("video/videomae",), options, tuning="top", chunk=16)
    )


def test_kept_stages_are_not_run_again(config: Config, data: Data, world: World) -> None:
    found = prefix.measure_prefix(config, data, world, steps=2)
    items = (
        sum(
            len(Plan(data.sequences, 0, 18, Owners((1,))).step(number).items_U) for number in (1, 2)
        )
        / 2
    )
    assert found["kept"]["videos_per_step"] == found["all_stages"]["videos_per_step"] == items
    assert (
        found["flops_ratio"]
        == found["flops_per_step"]["all_stages"] / found["flops_per_step"]["kept"]
        > 1.2
    )
    assert len(found["speedups"]) == 2 and found["cpu_speedup"] > 0 and found["item_bytes"] > 0


def test_kept_step_has_the_same_loss_without_media(
    config: Config, data: Data, world: World
) -> None:
    model = build_model(config, data, 0)
    cache = model.tower.build_activation_cache(1 << 30, torch.float32, world.device)
    assert cache is not None
    batch = MadeUpSteps(
        data,
        Plan(data.sequences, 0, 18, Owners((1,))),
        0,
        MediaPool(model.tower.specs),
        False,
        False,
    )[0]
    loss = model(replace(batch, cached_O=torch.zeros_like(batch.valid_O)))
    spared = prefix._spared(batch, cache)
    assert (
        spared.cached_O is not None
        and spared.cached_O.all()
        and all(len(media) == 0 for media in spared.media.values())
    )
    torch.testing.assert_close(model(spared), loss, atol=1e-5, rtol=1e-5)


def test_nothing_to_keep_is_refused(config: Config, data: Data, world: World) -> None:
    with pytest.raises(ValueError, match=r"item\.tuning=full"):
        prefix.measure_prefix(
            replace(config, item=replace(config.item, tuning="full")), data, world, steps=1
        )
    with pytest.raises(ValueError, match="--steps is 0"):
        prefix.run(argparse.Namespace(config=[], steps=0))
