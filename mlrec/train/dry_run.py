"""mlrec train --dry-run: predict what a run does, reads and holds in memory, without a GPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.data.decode import check_inputs, members_of
from mlrec.data.format import MediaInfo
from mlrec.data.host_memory import HostBytes, loader_bytes
from mlrec.data.plan import Plan, sampled_steps
from mlrec.data.samples import stored
from mlrec.data.schema import Modality
from mlrec.data.stream import Data, open_data
from mlrec.evaluation.run_evaluation import oracle_of
from mlrec.models.building import build_model
from mlrec.models.notices import notices
from mlrec.models.precision import foresee_precision
from mlrec.models.recommender import Recommender
from mlrec.models.registry import check_rows
from mlrec.models.tower import ItemTower
from mlrec.runs.run import check_place, find_state, last_step_of
from mlrec.runs.wandb_run import wandb_mode
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import track
from mlrec.runtime.units import megabytes_or_gigabytes
from mlrec.train.deepspeed_config import zero_stage
from mlrec.train.large_tables import find_tables
from mlrec.train.memory_estimate import ActivationBytes, MemoryEstimate, StateBytes
from mlrec.train.optim import parameter_groups
from mlrec.train.warm_start import encoders_to_restore, start_from

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
    parameters: int
    trained_parameters: int
    memory: MemoryEstimate
    host: HostBytes
    """Host memory of a rank's loader."""
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
        activations = self.memory.activations
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
            "chunk": config.item.chunk,
            "bytes_per_step": sizes.mean_bytes,
            "item_shard_bytes": self.item_shard_bytes,
            "media": asdict(info.media),
            "room": self.data.store.room(),
            "keeps_prefixes": self.fills_activation_cache,
            "parameters": {"total": self.parameters, "trained": self.trained_parameters},
            "precision": config.train.precision,
            "zero_stage": zero_stage(config, self.ranks),
            "memory": self.memory.as_json(),
            "activations": asdict(activations) if activations else None,
            "host": self.host.as_json(),
            "random_weights": self.random_weights,
            "notices": self.notices,
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
            f"data     {self.data.info.name}: {counts['users']:,} users, "
            f"{self.data.catalogue.size:,} items, {counts['interactions']:,} interactions{split}",
            f"steps    {self.first_step:,} to {self.last_step:,}, {epochs:,.1f} epochs of "
            f"{self.steps_per_epoch:,}; a step has up to {config.train.global_batch:,} users"
            f"{_patience_in_words(config)}{self.warm_start}",
            f"a step   {sizes.mean_items:,.0f} distinct items, at most {sizes.most_items:,}; "
            f"at most {sizes.most_items_of_rank:,} on one of {self.ranks} ranks; "
            f"in chunks of {config.item.chunk}",
            f"reads    {step_size} a step, {epoch_size} an epoch, of {shards_size} of item shards"
            f"{self.data.store.room()}{cache}",
        ]
        if self.frames:
            lines.append(f"frames   {self.frames}")
        for notice in self.notices:
            lines.append(f"note     {notice}")
        lines.append(f"host     {self.host.in_words()} per rank")
        lines.append(
            f"a rank   {self.memory.in_words()}: {self.parameters:,} parameters, "
            f"{self.trained_parameters:,} trained, {config.train.precision}, "
            f"ZeRO-{zero_stage(config, self.ranks)}"
        )
        if self.memory.activations:
            lines.append(f"         {self.memory.activations.in_words()}")
        lines.append(f"         {self.memory.verdict()}")
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
    wandb_mode(config.tracking)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config, precision_lines = foresee_precision(config, device)
    data = open_data(config.data)
    oracle_of(data)
    owners = data.owners(config.train.global_batch, (ranks,))
    plan = Plan(data.sequences, config.seed, config.train.global_batch, owners)
    total_steps = steps_of(config.train.duration, plan.steps_per_epoch, 0)
    resumed, state = find_state(config, data)
    model = build_model(config, data, 0, encoders_to_restore(config, resumed))
    check_inputs(model.tower.specs, data.info.media, data.url)
    warm_start = start_from(config, data, model) if resumed is None else None

    parameter_groups(model, model.tower.encoders, config.optim)
    step_sizes = _step_sizes(plan, total_steps, data, model)
    # The fullest rank decides whether the activations fit.
    activations = ActivationBytes.of(model.tower, step_sizes.most_items_of_rank, config)
    total = 0
    trained = 0
    for parameter in model.parameters():
        total += parameter.numel()
        if parameter.requires_grad:
            trained += parameter.numel()
    tables = find_tables(model, config)
    in_tables = sum(table.embedding.weight.numel() for table in tables.values())
    state_bytes = StateBytes.of(trained, total, config, ranks, in_tables)
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
        parameters=total,
        trained_parameters=trained,
        memory=MemoryEstimate.of(state_bytes, activations, config, ranks),
        host=loader_bytes(
            model.tower.specs,
            step_sizes.most_items_of_rank,
            config.data.num_workers,
            data.catalogue.size,
            ranks,
            model.tower.chunk,
            on_gpu=torch.cuda.is_available(),
        ),
        random_weights=model.tower.random_encoders,
        frames=_frames_in_words(model.tower, data.info.media),
        notices=notices(model.tower, data) + precision_lines,
    )


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
