"""mlrec plan: what a run takes on GPUs that are not here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from mlrec.config import Config
from mlrec.config.encoder_options import Tuning
from mlrec.models.building import training_precision
from mlrec.models.formulas import UNKNOWN_GPU, gpu_rates
from mlrec.models.registry import check_rows
from mlrec.runtime.devices import DEVICES
from mlrec.runtime.printable import counted
from mlrec.runtime.units import megabytes_or_gigabytes
from mlrec.train.deepspeed_config import zero_stage
from mlrec.train.forecast import Forecast
from mlrec.train.forecast_words import (
    chunks_in_words,
    host_line,
    memory_lines,
    on_ranks,
    time_lines,
)
from mlrec.train.forecaster import Forecaster
from mlrec.train.machine import gpu_machine
from mlrec.train.model_cost import build_shapes, forecaster_of
from mlrec.train.remedies import Remedy, find_remedies
from mlrec.train.workload import DatasetCounts, counts_of, expected_workload


@dataclass(frozen=True)
class RunPlan:
    """What a run takes."""

    counts: DatasetCounts
    forecast: Forecast
    remedies: list[Remedy]
    """Changes with which the run fits; empty if it fits as it is."""

    def as_json(self) -> dict[str, Any]:
        """Return the plan for programs; units are in the keys."""
        forecast = self.forecast
        config = forecast.config
        machine = forecast.machine
        workload = forecast.workload
        return {
            "run": config.name,
            "encoders": list(config.item.encoders),
            "tuning": config.item.tuning,
            "dataset": self.counts.name,
            "users": self.counts.users,
            "items": self.counts.items,
            "interactions": self.counts.interactions,
            "assumption": self.counts.assumption,
            "gpus": machine.ranks,
            "nodes": machine.nodes,
            "precision": config.train.precision,
            "zero_stage": zero_stage(config, machine.ranks),
            "users_per_step": workload.users_per_step,
            "steps_per_epoch": workload.steps_per_epoch,
            "steps": workload.total_steps,
            "items_per_step": workload.items_per_step,
            "items_per_rank": workload.items_per_step / machine.ranks,
            "most_items_per_rank": workload.most_items_of_rank(machine.ranks),
            "bytes_per_step": workload.bytes_per_step,
            "bytes_per_epoch": workload.bytes_per_step * workload.steps_per_epoch,
            "parameters": {"total": forecast.cost.total, "trained": forecast.cost.trained},
            "chunks": {**asdict(forecast.choice), "recomputes": forecast.choice.recomputes},
            "memory": forecast.memory.as_json(),
            "host": forecast.host.as_json(),
            **forecast.work_as_json(),
            "time": forecast.time.as_json() if forecast.time else None,
            "remedies": [asdict(remedy) for remedy in self.remedies],
            "notices": self.notices,
        }

    def describe(self) -> list[str]:
        """Return the plan in words, in lines."""
        forecast = self.forecast
        config = forecast.config
        counts = self.counts
        machine = forecast.machine
        workload = forecast.workload
        nodes = f" on {machine.nodes} nodes" if machine.nodes > 1 else ""
        assumption = f"; {counts.assumption}" if counts.assumption else ""
        step_size = megabytes_or_gigabytes(workload.bytes_per_step)
        epoch_size = megabytes_or_gigabytes(workload.bytes_per_step * workload.steps_per_epoch)
        return [
            f"run      {config.name}: {', '.join(config.item.encoders)}, tuning "
            f"{config.item.tuning}, {config.recommender.name}",
            f"data     {counts.name}: {counted(counts.users, 'user')}, "
            f"{counted(counts.items, 'item')}, "
            f"{counted(counts.interactions, 'interaction')}{assumption}",
            f"gpus     {machine.gpus_in_words()}{nodes}, {config.train.precision}, "
            f"ZeRO-{zero_stage(config, machine.ranks)}",
            f"steps    {workload.total_steps:,}, {workload.epochs:,.1f} epochs of "
            f"{workload.steps_per_epoch:,}; a step has "
            f"{counted(round(workload.users_per_step), 'user')}",
            f"a step   {workload.items_in_words()}; at most "
            f"{workload.most_items_of_rank(machine.ranks):,} {on_ranks(machine.ranks)}",
            f"reads    about {step_size} a step, about {epoch_size} an epoch, before any cache",
            f"chunks   {chunks_in_words(forecast)}",
            *memory_lines(forecast, self.remedies),
            host_line(forecast),
            *time_lines(forecast),
            *(f"note     {notice}" for notice in self.notices),
        ]

    @property
    def notices(self) -> list[str]:
        """Facts about the run that a user might not expect."""
        return [*self.forecast.machine.notices, *_decoding_notices(self.forecast.config)]


def _decoding_notices(config: Config) -> list[str]:
    """Return what the plan assumes where the device decodes JPEGs."""
    if config.data.decode_on == "host":
        return []
    # dataset.json does not say how large JPEGs are.
    return [
        "host memory is that of data.decode_on=host; --dry-run on a machine with a GPU knows the "
        "sizes of the JPEGs"
    ]


def plan_run(
    config: Config, gpus: int, nodes: int | None, memory: str | None, gpu: str | None
) -> RunPlan:
    """Return what a run of this configuration takes, from its data set's dataset.json alone.

    Raises:
        ValueError: the run would be refused, the GPUs are unknown, or the shapes of a model are
            unknown without its checkpoint.
    """
    check_rows(config)
    # Names such as H100 are written in capitals.
    gpu = gpu.lower() if gpu else None
    machine, config = gpu_machine(config, gpus, nodes, memory, gpu)
    counts = counts_of(config)
    nominal_rates = gpu_rates(DEVICES[gpu or UNKNOWN_GPU], training_precision(config))

    @cache
    def costs(tuning: Tuning) -> Forecaster:
        tuned = replace(config, item=replace(config.item, tuning=tuning))
        model = build_shapes(tuned, counts)
        specs = model.tower.specs
        counts.check_inputs(specs, config.data.url)
        workload = expected_workload(config, counts, specs, machine.ranks, model.whole_catalogue)
        return forecaster_of(model, tuned, counts, workload, nominal_rates)

    def forecaster(other: Config) -> Forecaster:
        return costs(other.item.tuning)

    forecast = forecaster(config).forecast(config, machine)
    return RunPlan(counts, forecast, find_remedies(forecaster, config, machine))
