"""Frame of the benchmarks that take a configuration: they run alone or under a launcher."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from mlrec import config as configuration
from mlrec.bench.made_up import data_of
from mlrec.bench.result import Result
from mlrec.config import Config
from mlrec.data.stream import Data
from mlrec.models.precision import resolve_precision
from mlrec.runtime.distributed import World, start_world, stop_world

Figures = TypeVar("Figures")


def run_on_ranks(
    options: argparse.Namespace,
    measure: Callable[[Config, Data, World], Figures],
    result: Callable[[Config, World, Figures], Result],
) -> Result | None:
    """Measure on all ranks with the configuration options.config; collective.

    Returns:
        The result on rank 0, None on the other ranks.

    Raises:
        ValueError: the configuration or the data set does not fit, or --steps is below 1.
    """
    # Options are checked before the group starts: a rank that failed alone would hang the others.
    config = configuration.load_arguments(options.config)
    if options.steps < 1:
        raise ValueError(f"--steps is {options.steps}; it must be 1 or more")
    world = start_world()
    config = resolve_precision(config, world.device)
    # Every rank measures, because steps are collective. Rank 0 prints.
    figures = measure(config, data_of(config.data), world)
    stop_world()
    return result(config, world, figures) if world.is_main else None
