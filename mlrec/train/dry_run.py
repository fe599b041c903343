"""mlrec train --dry-run: what a run will do, read and hold in memory, before a GPU is asked for."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.data.decode import check_inputs, members_of
from mlrec.data.plan import Plan, sampled_steps
from mlrec.data.samples import stored
from mlrec.data.schema import Modality
from mlrec.data.stream import open_data
from mlrec.evaluation.evaluate import oracle_of
from mlrec.models.building import build_model, training_dtype
from mlrec.models.notices import notices
from mlrec.models.registry import check_rows
from mlrec.models.tower import ItemTower
from mlrec.runs.run import check_place, find_state
from mlrec.runs.wandb_run import wandb_mode
from mlrec.runtime.progress import track
from mlrec.runtime.units import megabytes_or_gigabytes
from mlrec.train.activation_memory import saved_bytes
from mlrec.train.deepspeed_config import deepspeed_config
from mlrec.train.warm_start import encoders_to_restore, start_from

FLAG = "--dry-run"


@dataclass(frozen=True)
class StateBytes:
    """What a rank holds between its steps, in bytes."""

    parameters: int
    gradients: int
    bucket: int
    """Of gradients on their way to the other ranks."""
    optimizer: int

    @staticmethod
    def of(trained: int, total: int, config: Config, ranks: int) -> StateBytes:
        """The estimate for so many trained and total parameters.

        ZeRO shares the optimizer's state from stage 1 on, gradients from 2, parameters from 3 (Rajbhandari et al., 2020). Beside
        AdamW's two moments DeepSpeed keeps a copy of the weights in fp32 from stage 1 on, in fp32 training too.
        """
        stage, width = config.zero.stage, 2 if config.train.precision == "bf16" else 4

        def share(size: int, first_stage: int) -> int:
            return -(-size // ranks) if stage >= first_stage else size

        moments, master = 8, 4 if stage >= 1 else 0
        bucket = deepspeed_config(config, ranks, trained)["zero_optimization"]["reduce_bucket_size"]
        return StateBytes(
            parameters=share(width * total, 3),
            gradients=share(width * trained, 2),
            bucket=width * bucket if stage >= 1 else 0,
            optimizer=share((moments + master) * trained, 1),
        )

    def on_device(self, offload_optimizer: bool) -> int:
        """What of it the device holds; an optimizer that is offloaded is in host memory."""
        return (
            self.parameters
            + self.gradients
            + self.bucket
            + (0 if offload_optimizer else self.optimizer)
        )


def figures(config: Config, ranks: int) -> dict[str, Any]:
    """What a run will do, for programs; units are in the keys.

    Raises:
        ValueError: the run would end with the same error.
    """
    check_rows(config)
    check_place(config)
    wandb_mode(config.tracking)
    data = open_data(config.data)
    oracle_of(data)
    plan = Plan(
        data.sequences,
        config.seed,
        config.train.global_batch,
        data.owners(config.train.global_batch, (ranks,)),
    )
    total_steps = steps_of(config.train.duration, plan.steps_per_epoch, 0)
    resumed, state = find_state(config, data)
    model = build_model(config, data, 0, encoders_to_restore(config, resumed))
    check_inputs(model.tower.specs, data.info.media, data.url)
    warm_start = start_from(config, data, model) if resumed is None else None
    begun = warm_start.in_words() if warm_start else ""
    items_N = np.flatnonzero(data.catalogue.ok_N1) if model.whole_catalogue else None
    names = set(stored(members_of(model.tower.specs, data.info.media)))
    distinct, owned, read = [], [], []
    for planned in track(list(sampled_steps(total_steps)), "planning some steps"):
        step = plan.step(planned, items_N)
        members = (
            member for item in step.items_U.tolist() for member in data.catalogue.members(item)
        )
        distinct.append(len(step.items_U))
        owned.append(max(step.owned_W))
        read.append(sum(member.size for member in members if member.name in names) if names else 0)
    activations = _activations(model.tower, max(owned), config)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    partly_frozen = any(
        not parameter.requires_grad
        for encoder in model.tower.encoders
        for parameter in encoder.parameters()
    )
    return {
        "run": config.name,
        "run_dir": str(config.run_path),
        "dataset": data.info.name,
        "users": data.info.counts["users"],
        "items": data.catalogue.size,
        "interactions": data.info.counts["interactions"],
        "ranks": ranks,
        "first_step": state.step,
        "last_step": total_steps,
        "begins_with": begun,
        "steps_per_epoch": plan.steps_per_epoch,
        "global_batch": config.train.global_batch,
        "items_per_step": float(np.mean(distinct)),
        "most_items_per_step": max(distinct),
        "most_items_per_rank": max(owned),
        "chunk": config.item.chunk,
        "bytes_per_step": float(np.mean(read)),
        "item_shard_bytes": sum(shard.size for shard in data.store.shards),
        "room": data.store.room(),
        "keeps_prefixes": partly_frozen
        and any(spec.modality is not Modality.ID for spec in model.tower.specs),
        "parameters": {"total": total, "trained": trained},
        "precision": config.train.precision,
        "zero_stage": config.zero.stage,
        "memory": _memory(StateBytes.of(trained, total, config, ranks), activations, config, ranks),
        "activations": activations,
        "random_weights": model.tower.random_encoders,
        "notices": notices(model.tower, data),
    }


def _memory(
    state: StateBytes, activations: dict[str, Any] | None, config: Config, ranks: int
) -> dict[str, Any]:
    """Return what a rank holds between its steps, what the device has, and whether that and the activations fit."""
    if torch.cuda.is_available():
        needed, device = (
            state.on_device(config.zero.offload_optimizer),
            torch.cuda.get_device_name(),
        )
        room = torch.cuda.get_device_properties(0).total_memory
    else:
        needed, device = (
            state.on_device(offload_optimizer=False),
            f"this machine's memory, shared by {ranks} ranks",
        )
        room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks
    parts = {f"{name}_bytes": size for name, size in asdict(state).items()}
    offloaded = config.zero.offload_optimizer
    return {
        **parts,
        "offload_optimizer": offloaded,
        "device": device,
        "device_bytes": room,
        "fits": needed + (_least_bytes(activations) if activations else 0) < room,
        "needed_bytes": needed,
    }


def _activations(tower: ItemTower, items: int, config: Config) -> dict[str, Any] | None:
    """What the item tower's activations take, held and computed again, and which of the two the run will do.

    None where no encoder is trained.
    """
    if not tower.trained:
        return None
    item_bytes = saved_bytes(tower, torch.device("cpu"), training_dtype(config))
    again_bytes = min(items, config.item.chunk) * item_bytes
    choice = config.item.checkpoint
    return {
        "item_bytes": item_bytes,
        "held_bytes": items * item_bytes,
        "recomputed_bytes": again_bytes,
        "checkpoint": choice,
    }


def _least_bytes(activations: dict[str, Any]) -> float:
    """Return what the activations take at the least."""
    key = "held_bytes" if activations["checkpoint"] == "never" else "recomputed_bytes"
    return float(activations[key])


def _verdict(memory: dict[str, Any], activations: dict[str, Any] | None) -> str:
    device, room = memory["device"], megabytes_or_gigabytes(memory["device_bytes"])
    left = memory["device_bytes"] - memory["needed_bytes"]
    if left <= 0:
        return f"does not fit {device}, {room}: raise zero.stage, start more ranks, or set zero.offload_optimizer=true"
    if activations is None or memory["fits"]:
        return f"fits {device}: {megabytes_or_gigabytes(left)} of {room} are left for activations"
    return (
        f"does not fit {device}: the item tower's activations take {megabytes_or_gigabytes(_least_bytes(activations))}, and "
        f"{megabytes_or_gigabytes(left)} of {room} are left for them: {_remedy(left, activations)}"
    )


def _remedy(left: float, activations: dict[str, Any]) -> str:
    """Return the settings with which the activations would fit into `left` bytes."""
    chunk = int(left / activations["item_bytes"])
    if chunk < 1:
        return "those of one item do not fit; choose a smaller encoder or input, or train less of it (item.tuning)"
    settings = ["item.checkpoint=auto"] if activations["checkpoint"] == "never" else []
    if activations["recomputed_bytes"] >= left:
        settings.append(f"item.chunk={chunk} or lower")
    return f"set {' and '.join(settings)}"


def describe(found: dict[str, Any]) -> list[str]:
    """The same in words, in lines."""
    steps, mean_read = found["last_step"], found["bytes_per_step"]
    kept = (
        "; an item's once in the run where its frozen stages are kept"
        if found["keeps_prefixes"]
        else ""
    )
    memory, counts = found["memory"], found["parameters"]
    return [
        f"run      {found['run']}, in {found['run_dir']}",
        f"data     {found['dataset']}: {found['users']:,} users, {found['items']:,} items, "
        f"{found['interactions']:,} interactions",
        f"steps    {found['first_step']:,} to {steps:,}, {steps / found['steps_per_epoch']:,.1f} epochs of "
        f"{found['steps_per_epoch']:,}; a step has up to {found['global_batch']:,} users"
        f"{found['begins_with']}",
        f"a step   {found['items_per_step']:,.0f} distinct items, at most {found['most_items_per_step']:,}; at most "
        f"{found['most_items_per_rank']:,} of a rank, of {found['ranks']}; in chunks of {found['chunk']}",
        f"reads    {megabytes_or_gigabytes(mean_read)} a step, {megabytes_or_gigabytes(mean_read * found['steps_per_epoch'])} an epoch, of "
        f"{megabytes_or_gigabytes(found['item_shard_bytes'])} of item shards{found['room']}{kept}",
        *(f"note     {notice}" for notice in found["notices"]),
        f"a rank   parameters {megabytes_or_gigabytes(memory['parameters_bytes'])}, gradients {megabytes_or_gigabytes(memory['gradients_bytes'])} "
        f"and {megabytes_or_gigabytes(memory['bucket_bytes'])} on their way, "
        f"optimizer {megabytes_or_gigabytes(memory['optimizer_bytes'])}{' of host memory' if memory['offload_optimizer'] else ''}: "
        f"{counts['total']:,} parameters, {counts['trained']:,} trained, {found['precision']}, ZeRO-{found['zero_stage']}",
        *([_activations_in_words(found["activations"])] if found["activations"] else []),
        f"         {_verdict(memory, found['activations'])}",
    ]


def _activations_in_words(found: dict[str, Any]) -> str:
    choice = {
        "auto": "held if half of the memory that is free when the run starts has room, else computed again chunk by chunk",
        "always": "computed again chunk by chunk",
        "never": "held",
    }[found["checkpoint"]]
    item, held, again = (
        megabytes_or_gigabytes(found[f"{key}_bytes"]) for key in ("item", "held", "recomputed")
    )
    return (
        f"         activations of the item tower {item} an item: {held} where those of all are held, {again} of a chunk; "
        f"item.checkpoint={found['checkpoint']}: {choice}"
    )
