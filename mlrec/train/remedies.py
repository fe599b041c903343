"""What to change if a run does not fit into memory, checked by forecasting it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from mlrec.config import Config
from mlrec.train.deepspeed_config import zero_stage
from mlrec.train.forecast import Forecast
from mlrec.train.forecaster import Forecaster
from mlrec.train.machine import Machine

MAX_GPUS = 1024
"""Largest number of GPUs that is tried."""
GATHERED_ELEMENTS = 10_000_000
"""Value of DeepSpeed's limits on gathered parameters that is tried at ZeRO stage 3."""


@dataclass(frozen=True)
class Remedy:
    """Settings with which a run takes less memory."""

    settings: tuple[str, ...]
    """As on the command line."""
    needed_bytes: float
    fits: bool
    hours: float | None
    """Hours of the run; None if unknown."""


@dataclass(frozen=True)
class _Change:
    settings: tuple[str, ...]
    config: Config
    machine: Machine

    def add(self, setting: str, config: Config, machine: Machine | None = None) -> _Change:
        """Return this change with one more setting, which replaces one of the same key."""
        key = setting.partition("=")[0].partition(" ")[0]
        others = tuple(one for one in self.settings if not one.startswith(key))
        return _Change((*others, setting), config, machine or self.machine)


def find_remedies(
    forecaster: Callable[[Config], Forecaster], config: Config, machine: Machine
) -> list[Remedy]:
    """Return changes that make the run fit; empty if it fits already, or with none of them.

    The order: recompute activations, smaller chunks, a higher ZeRO stage, fewer gathered
    parameters at stage 3, the optimizer in host memory, more GPUs. They add up until the run fits.
    Fewer users at a time in a validation come with the first of them after which a validation is
    all that does not fit. Training less of the encoder is another remedy, on its own.

    Args:
        forecaster: function that returns the costs of a model; only item.tuning changes them here.
    """
    untuned = forecaster(config)
    if untuned.forecast(config, machine).memory.fits:
        return []
    remedies = []
    remedy = _first_that_fits(untuned, _Change((), config, machine))
    if remedy is not None:
        remedies.append(remedy)
    if config.item.tuning in ("full", "scratch", "half"):
        item = replace(config.item, tuning="top")
        top = replace(config, item=item)
        forecast = forecaster(top).forecast(top, machine)
        if forecast.memory.fits:
            remedies.append(_remedy(("item.tuning=top",), forecast))
    return remedies


def _first_that_fits(forecaster: Forecaster, start: _Change) -> Remedy | None:
    for change in chain([start], _cumulative(start)):
        memory = forecaster.forecast(change.config, change.machine).memory
        candidates = chain([change], _lower_user_chunks(change) if memory.step_fits else [])
        for candidate in candidates:
            forecast = forecaster.forecast(candidate.config, candidate.machine)
            if forecast.memory.fits:
                return _remedy(candidate.settings, forecast)
    return None


def _lower_user_chunks(change: _Change) -> Iterator[_Change]:
    """Yield changes with fewer users at a time in a validation."""
    users = change.config.evaluate.user_chunk
    while users > 1:
        users //= 2
        evaluate = replace(change.config.evaluate, user_chunk=users)
        config = replace(change.config, evaluate=evaluate)
        yield change.add(f"evaluate.user_chunk={users}", config)


def _remedy(settings: tuple[str, ...], forecast: Forecast) -> Remedy:
    hours = forecast.time.hours if forecast.time else None
    return Remedy(settings, forecast.memory.needed_bytes, forecast.memory.fits, hours)


def _cumulative(change: _Change) -> Iterator[_Change]:
    """Yield changes of which each includes those before."""
    if change.config.item.checkpoint == "never":
        change = change.add("item.checkpoint=auto", _with_item(change.config, checkpoint="auto"))
        yield change
    chunk = change.config.item.chunk
    if chunk != "auto":
        while chunk > 1:
            chunk //= 2
            change = change.add(f"item.chunk={chunk}", _with_item(change.config, chunk=chunk))
            yield change
    if change.config.item.checkpoint == "auto":
        # `auto` holds as much as fits into half of the memory; the recommender may need the rest.
        config = _with_item(change.config, checkpoint="always")
        change = change.add("item.checkpoint=always", config)
        yield change
    ranks = change.machine.ranks
    stage = zero_stage(change.config, ranks)
    higher_stages: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
    for higher in higher_stages:
        if ranks == 1 or higher <= stage:
            continue
        zero = replace(change.config.zero, stage=higher)
        change = change.add(f"zero.stage={higher}", replace(change.config, zero=zero))
        yield change
    if ranks > 1 and zero_stage(change.config, ranks) == 3 and not change.config.zero.options:
        # By default all parameters of models below a billion stay gathered.
        for option in ("stage3_max_reuse_distance", "stage3_prefetch_bucket_size"):
            options = {**change.config.zero.options, option: GATHERED_ELEMENTS}
            zero = replace(change.config.zero, options=options)
            setting = f"zero.options.{option}={GATHERED_ELEMENTS}"
            change = change.add(setting, replace(change.config, zero=zero))
        yield change
    if not change.config.zero.offload_optimizer and change.machine.on_gpu:
        if zero_stage(change.config, ranks) == 0:
            zero = replace(change.config.zero, stage=1)
            change = change.add("zero.stage=1", replace(change.config, zero=zero))
        zero = replace(change.config.zero, offload_optimizer=True)
        setting = "zero.offload_optimizer=true"
        change = change.add(setting, replace(change.config, zero=zero))
        yield change
    if not change.machine.on_gpu:
        return
    while (ranks := 2 * change.machine.ranks) <= min(MAX_GPUS, change.config.train.global_batch):
        nodes = -(-ranks // change.machine.ranks_per_node)
        machine = replace(change.machine, ranks=ranks, nodes=nodes)
        change = change.add(f"--gpus {ranks}", change.config, machine)
        yield change


def _with_item(config: Config, **settings: object) -> Config:
    return replace(config, item=replace(config.item, **settings))  # type: ignore[arg-type]
