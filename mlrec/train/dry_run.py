"""mlrec train --dry-run: predict what a run does, reads and holds in memory, without a GPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.data.decode import check_inputs, members_of
from mlrec.data.decode_on import check_decode_on, delivered_inputs
from mlrec.data.format import MediaInfo
from mlrec.data.host_memory import HostBytes, check_host_memory
from mlrec.data.plan import Plan, sampled_steps
from mlrec.data.samples import stored
from mlrec.data.schema import Modality
from mlrec.data.stream import Data, open_data
from mlrec.evaluation.run_evaluation import oracle_of
from mlrec.models.building import build_model, training_precision
from mlrec.models.encoders.architectures import NoShapesError
from mlrec.models.formulas import nominal_rates
from mlrec.models.notices import notices
from mlrec.models.precision import foresee_precision
from mlrec.models.recommender import Recommender
from mlrec.models.registry import check_rows
from mlrec.models.tower import ItemTower
from mlrec.runs.run import check_place, find_state, last_step_of
from mlrec.runs.tracker import check_tracking
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import track
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
from mlrec.train.machine import this_machine
from mlrec.train.model_cost import forecaster_of
from mlrec.train.optim import parameter_groups
from mlrec.train.remedies import Remedy, find_remedies
from mlrec.train.warm_start import encoders_to_restore, start_from
from mlrec.train.workload import Workload, counts_in

FLAG = "--dry-run"


@dataclass(frozen=True)
class StepSizes:
    """Sizes of some steps, spread over the run."""

    mean_items: float
    """Mean number of distinct items in a step."""
    most_items: int
    """Largest number of distinct items in a step."""
    most_items_of_rank: int
    """Largest number of items that a rank encodes in a step."""
    mean_bytes: float
    """Mean size of the media that all ranks read in a step (bytes)."""


@dataclass(frozen=True)
class DryRun:
    """Prediction of a run."""

    config: Config
    data: Data
    ranks: int
    first_step: int
    """Step of the checkpoint that the run resumes from; 0 for a new run."""
    last_step: int
    """Last step of the run, unless it stops early by train.patience."""
    steps_per_epoch: int
    step_sizes: StepSizes
    warm_start: str
    """Weights that a new run takes over, in words after a semicolon; empty without them."""
    fills_activation_cache: bool
    """Whether activations of frozen stages can be cached, so that an item is read only once."""
    forecast: Forecast
    """Memory and time of a rank on this machine."""
    remedies: list[Remedy]
    """Changes with which the run fits; empty if it fits as it is."""
    host_fault: str
    """Why the loaders do not fit the host memory or /dev/shm; empty if they fit."""
    random_weights: list[str]
    """Encoders that start from random weights."""
    frames: str
    """Frames of a video in the data set, in words; empty if no encoder reads videos."""
    notices: list[str]
    """Facts about the run that a user might not expect."""

    @property
    def item_shard_bytes(self) -> int:
        """Size of the data set's item shards (bytes)."""
        return sum(shard.size for shard in self.data.store.shards)

    def as_json(self) -> dict[str, Any]:
        """Return the prediction for programs; units are in the keys."""
        config = self.config
        info = self.data.info
        sizes = self.step_sizes
        forecast = self.forecast
        return {
            "run": config.name,
            "run_dir": str(config.run_path),
            "dataset": info.name,
            "users": info.counts["users"],
            "items": self.data.catalogue.size,
            "interactions": info.counts["interactions"],
            "split": asdict(info.split),
            "ranks": self.ranks,
            "first_step": self.first_step,
            "last_step": self.last_step,
            "begins_with": self.warm_start,
            "steps_per_epoch": self.steps_per_epoch,
            "global_batch": config.train.global_batch,
            "items_per_step": sizes.mean_items,
            "most_items_per_step": sizes.most_items,
            "most_items_per_rank": sizes.most_items_of_rank,
            "chunk": forecast.choice.chunk,
            "held_chunks": forecast.choice.held_chunks,
            "chunks": forecast.choice.chunks,
            "bytes_per_step": sizes.mean_bytes,
            "item_shard_bytes": self.item_shard_bytes,
            "media": asdict(info.media),
            "room": self.data.store.room(),
            "keeps_prefixes": self.fills_activation_cache,
            "parameters": {"total": forecast.cost.total, "trained": forecast.cost.trained},
            "precision": config.train.precision,
            "zero_stage": zero_stage(config, self.ranks),
            "memory": forecast.memory.as_json(),
            "activations": self._activations() if forecast.cost.trains_tower else None,
            **forecast.work_as_json(),
            "time": forecast.time.as_json() if forecast.time else None,
            "remedies": [asdict(remedy) for remedy in self.remedies],
            "host": {**forecast.host.as_json(), "fault": self.host_fault or None},
            "random_weights": self.random_weights,
            "notices": self.notices,
        }

    def _activations(self) -> dict[str, Any]:
        """Return the activations of the item tower for programs."""
        choice = self.forecast.choice
        return {
            "item_bytes": choice.item_bytes,
            "held_bytes": choice.items * choice.item_bytes,
            "recomputed_bytes": min(choice.items, choice.chunk) * choice.item_bytes,
            "checkpoint": self.config.item.checkpoint,
        }

    def describe(self) -> list[str]:
        """Return the prediction in words, in lines."""
        config = self.config
        counts = self.data.info.counts
        by_time = self.data.info.split.kind == "time"
        sizes = self.step_sizes
        epochs = self.last_step / self.steps_per_epoch
        step_size = megabytes_or_gigabytes(sizes.mean_bytes)
        epoch_size = megabytes_or_gigabytes(sizes.mean_bytes * self.steps_per_epoch)
        shards_size = megabytes_or_gigabytes(self.item_shard_bytes)
        cache = (
            "; only once per item in the activation cache" if self.fills_activation_cache else ""
        )
        split = f"; {self.data.info.split.in_words()}" if by_time else ""
        lines = [
            f"run      {config.name}, in {config.run_path}",
            f"data     {self.data.info.name}: {counted(counts['users'], 'user')}, "
            f"{counted(self.data.catalogue.size, 'item')}, "
            f"{counted(counts['interactions'], 'interaction')}{split}",
            f"steps    {self.first_step:,} to {self.last_step:,}, {epochs:,.1f} epochs of "
            f"{self.steps_per_epoch:,}; a step has up to "
            f"{counted(config.train.global_batch, 'user')}"
            f"{_patience_in_words(config)}{self.warm_start}",
            f"a step   {sizes.mean_items:,.0f} distinct items, at most {sizes.most_items:,}; "
            f"at most {sizes.most_items_of_rank:,} {on_ranks(self.ranks)}; "
            f"in chunks of {self.forecast.choice.chunk:,}",
            f"reads    {step_size} a step, {epoch_size} an epoch, of {shards_size} of item shards"
            f"{self.data.store.room()}{cache}",
        ]
        if self.frames:
            lines.append(f"frames   {self.frames}")
        for notice in self.notices:
            lines.append(f"note     {notice}")
        cost = self.forecast.cost
        lines.append(
            f"model    {cost.total:,} parameters, {cost.trained:,} trained, "
            f"{config.train.precision}, ZeRO-{zero_stage(config, self.ranks)}; "
            f"{chunks_in_words(self.forecast)}"
        )
        lines += time_lines(self.forecast)
        lines.append(host_line(self.forecast))
        if self.host_fault:
            lines.append(f"         does not fit host memory: {self.host_fault}")
        lines += memory_lines(self.forecast, self.remedies)
        return lines


def predict(config: Config, ranks: int) -> DryRun:
    """Return what a run of this configuration will do on `ranks` ranks, in one process.

    Raises:
        ValueError: the run would end with the same error.
    """
    # One process predicts for all ranks: the plan and the memory estimate need no others.
    # The same checks in the same order as in training, so that the first error is the same.
    check_rows(config)
    check_place(config)
    check_tracking(config.tracking)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config, precision_lines = foresee_precision(config, device)
    check_decode_on(config.data, device)
    data = open_data(config.data)
    oracle_of(data)
    owners = data.owners(config.train.global_batch, (ranks,))
    plan = Plan(data.sequences, config.seed, config.train.global_batch, owners)
    total_steps = steps_of(config.train.duration, plan.steps_per_epoch, 0)
    resumed, state = find_state(config, data)
    model = _build(config, data, resumed)
    check_inputs(model.tower.specs, data.info.media, data.url)
    warm_start = start_from(config, data, model) if resumed is None else None

    parameter_groups(model, model.tower.encoders, config.optim)
    step_sizes = _step_sizes(plan, total_steps, data, model)
    workload = Workload(
        users_per_step=data.sequences.num_train_users / plan.steps_per_epoch,
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=total_steps,
        items_per_step=step_sizes.mean_items,
        most_items=step_sizes.most_items,
        bytes_per_step=step_sizes.mean_bytes,
        catalogue=data.catalogue.size,
    )
    machine = this_machine(config, ranks)
    counts = counts_in(data.info)

    def forecaster(other: Config) -> Forecaster:
        tuned = model if other.item == config.item else _build(other, data, resumed)
        rates = nominal_rates(device, training_precision(other))
        return forecaster_of(tuned, other, counts, workload, rates)

    forecast = forecaster(config).forecast(config, machine)
    remedies = find_remedies(forecaster, config, machine)
    return DryRun(
        config=config,
        data=data,
        ranks=ranks,
        first_step=state.step,
        last_step=last_step_of(config, state, total_steps),
        steps_per_epoch=plan.steps_per_epoch,
        step_sizes=step_sizes,
        warm_start=warm_start.in_words() if warm_start else "",
        fills_activation_cache=_fills_activation_cache(model.tower),
        forecast=forecast,
        remedies=remedies,
        host_fault=_host_fault(forecast.host.loader, ranks),
        random_weights=model.tower.random_encoders,
        frames=_frames_in_words(model.tower, data.info.media),
        notices=[
            *notices(model.tower, data),
            *_unread_checkpoints(model.tower),
            *precision_lines,
        ],
    )


def _host_fault(loader: HostBytes, ranks: int) -> str:
    """Return why the loaders of all ranks do not fit this machine; "" if they fit."""
    try:
        check_host_memory(loader, ranks)
    except RuntimeError as error:
        return str(error)
    return ""


def _build(config: Config, data: Data, resumed: Path | None) -> Recommender:
    """Build the model of a run; encoders whose checkpoint is not on this machine have shapes alone.

    Raises:
        ValueError: as in build_model and delivered_inputs.
    """
    model = _build_with_shapes(config, data, resumed)
    model.tower.specs = delivered_inputs(model.tower.specs, data)
    return model


def _build_with_shapes(config: Config, data: Data, resumed: Path | None) -> Recommender:
    restored = encoders_to_restore(config, resumed)
    if config.train.start_from and resumed is None:
        # A warm start compares values, and may replace the weights of some encoders only.
        return build_model(config, data, 0, restored)
    try:
        return build_model(config, data, 0, replace(restored, weights="local"))
    except NoShapesError:
        # Only the checkpoint itself tells its shapes.
        return build_model(config, data, 0, restored)


def _unread_checkpoints(tower: ItemTower) -> list[str]:
    """Return a notice for each encoder whose weights are not on this machine."""
    lines = []
    for name, encoder in zip(tower.names, tower.encoders, strict=True):
        if any(parameter.is_meta for parameter in encoder.parameters()):
            lines.append(f"{name}: its checkpoint is not on this machine and was not read")
    return lines


def _patience_in_words(config: Config) -> str:
    """Return when the run stops early, in words after a semicolon; "" if it never does."""
    patience = config.train.patience
    if not patience:
        return ""
    return f"; it stops early after {counted(patience, 'validation')} without a new best"


def _frames_in_words(tower: ItemTower, media: MediaInfo) -> str:
    """Return what the data set has of each video; "" if no encoder reads videos."""
    if all(spec.modality is not Modality.VIDEO for spec in tower.specs):
        return ""
    if media.kind == "clip":
        return f"the data set has whole clips; policy {media.policy} chooses frames at each read"
    return (
        f"the data set has {counted(media.frames, 'frame')} per video, "
        f"chosen by policy {media.policy}"
    )


def _step_sizes(plan: Plan, total_steps: int, data: Data, model: Recommender) -> StepSizes:
    """Plan some steps of the run, and return their sizes."""
    items_N = np.flatnonzero(data.catalogue.ok_N1) if model.whole_catalogue else None
    member_names = set(stored(members_of(model.tower.specs, data.info.media)))
    distinct_items = []
    items_of_fullest_rank = []
    read_bytes = []
    # Planning every step of a long run would take minutes.
    for planned_step in track(list(sampled_steps(total_steps)), "planning some steps"):
        step = plan.step(planned_step, items_N)
        distinct_items.append(len(step.items_U))
        items_of_fullest_rank.append(max(step.owned_W))
        # Without media, as with ids alone, no shard is opened.
        items = step.items_U.tolist() if member_names else []
        read_bytes.append(sum(_stored_bytes(data, item, member_names) for item in items))
    return StepSizes(
        mean_items=float(np.mean(distinct_items)),
        most_items=max(distinct_items),
        most_items_of_rank=max(items_of_fullest_rank),
        mean_bytes=float(np.mean(read_bytes)),
    )


def _stored_bytes(data: Data, item: int, member_names: set[str]) -> int:
    """Return the size of an item's members of these names in its shard (bytes)."""
    members = data.catalogue.members(item)
    return sum(member.size for member in members if member.name in member_names)


def _fills_activation_cache(tower: ItemTower) -> bool:
    """Return whether encoders have frozen parameters, and activations of media to cache."""
    if all(spec.modality is Modality.ID for spec in tower.specs):
        return False
    for encoder in tower.encoders:
        for parameter in encoder.parameters():
            if not parameter.requires_grad:
                return True
    return False
