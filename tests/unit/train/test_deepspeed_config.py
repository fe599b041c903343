"""DeepSpeed's configuration makes the host wait for the device no more often than necessary."""

from __future__ import annotations

import pytest
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.utils.config import get_timers_config

from mlrec.config import Config, load
from mlrec.train.deepspeed_config import (
    LIVE_ELEMENTS,
    PREFETCHED_ELEMENTS,
    REUSE_DISTANCE_ELEMENTS,
    deepspeed_config,
    gathered_elements,
)


def test_gathered_elements_have_the_defaults_of_deepspeed() -> None:
    defaults = DeepSpeedZeroConfig(stage=3)
    assert defaults.max_reuse_distance == REUSE_DISTANCE_ELEMENTS
    assert defaults.max_live_parameters == LIVE_ELEMENTS
    assert defaults.prefetch_bucket_size == PREFETCHED_ELEMENTS
    assert gathered_elements(load([], ["zero.stage=3"]), 7) == 1_050_000_000


@pytest.mark.parametrize("prefix", ["stage3_", ""])
def test_gathered_elements_follow_the_options(prefix: str) -> None:
    key = f"zero.options.{prefix}"
    settings = ["zero.stage=3", f"{key}max_reuse_distance=10", f"{key}prefetch_bucket_size=5"]
    assert gathered_elements(load([], settings), largest=7) == 15
    assert gathered_elements(load([], settings), largest=70) == 75
    settings.append(f"{key}max_live_parameters=2")
    assert gathered_elements(load([], settings), largest=7) == 12


def test_deepspeed_config_throughput_timer_is_off(tiny_config: Config) -> None:
    assert get_timers_config({}).enabled, "DeepSpeed's default is on"
    assert not get_timers_config(deepspeed_config(tiny_config, world_size=1, trained=10)).enabled
