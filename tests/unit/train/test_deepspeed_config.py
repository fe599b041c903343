"""DeepSpeed's configuration makes the host wait for the device no more often than necessary."""

from __future__ import annotations

from deepspeed.utils.config import get_timers_config

from mlrec.config import Config
from mlrec.train.deepspeed_config import deepspeed_config


def test_deepspeed_config_throughput_timer_is_off(tiny_config: Config) -> None:
    assert get_timers_config({}).enabled, "DeepSpeed's default is on"
    assert not get_timers_config(deepspeed_config(tiny_config, world_size=1, trained=10)).enabled
