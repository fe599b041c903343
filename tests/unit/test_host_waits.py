"""The host runs ahead of the device: it waits neither for a timer nor for a number in the middle of a step."""

from deepspeed.utils.config import get_timers_config

from mlrec.config import Config
from mlrec.engine import deepspeed_config


def test_deepspeed_does_not_wait_to_measure_its_throughput(tiny_config: Config) -> None:
    assert get_timers_config({}).enabled, "it would by itself"
    assert not get_timers_config(deepspeed_config(tiny_config, world_size=1, trained=10)).enabled
