"""mlrec train --dry-run: what a run will do, read and hold in memory, before a GPU is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlrec import config as configuration
from mlrec.config import Config
from mlrec.data.decode import members_of
from mlrec.data.plan import Plan
from mlrec.data.stream import open_data
from mlrec.durations import steps_of
from mlrec.engine import build_model, sampled_steps, training_dtype
from mlrec.models.saving import saved_bytes
from mlrec.models.tower import ItemTower
from mlrec.train import find_state

FLAG = "--dry-run"


@dataclass(frozen=True)
class StateBytes:
    """What a rank holds between its steps, in bytes."""

    parameters: int
    gradients: int
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
        return StateBytes(share(width * total, 3), share(width * trained, 2), share((moments + master) * trained, 1))

    def on_device(self, offload_optimizer: bool) -> int:
        """What of it the device holds; an optimizer that is offloaded is in host memory."""
        return self.parameters + self.gradients + (0 if offload_optimizer else self.optimizer)


def describe(config: Config, ranks: int) -> list[str]:
    """The lines of the report.

    Raises:
        ValueError: the run would end with the same error.
    """
    data = open_data(config.data)
    plan = Plan(data.sequences, config.seed, config.train.global_batch, data.owners(config.train.global_batch, (ranks,)))
    total_steps = steps_of(config.train.duration, plan.steps_per_epoch, 0)
    _, state = find_state(config, data)
    model = build_model(config, data, rank=0)
    items_N = np.flatnonzero(data.catalogue.ok_N1) if model.whole_catalogue else None
    names = set(members_of(model.tower.specs, data.info.media))
    distinct, owned, read = [], [], []
    for planned in sampled_steps(plan, total_steps, items_N):
        members = (member for item in planned.items_U.tolist() for member in data.catalogue.members(item))
        distinct.append(len(planned.items_U))
        owned.append(max(planned.owned_W))
        read.append(sum(member.size for member in members if member.name in names) if names else 0)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    partly_frozen = any(not parameter.requires_grad for encoder in model.tower.encoders for parameter in encoder.parameters())
    kept = "; an item's once in the run where its frozen stages are kept" if partly_frozen and names else ""
    resident, verdict = _memory(StateBytes.of(trained, total, config, ranks), trained, total, config, ranks)
    counts, mean_read, epochs = data.info.counts, float(np.mean(read)), total_steps / plan.steps_per_epoch
    return [
        f"data     {data.info.name}: {counts['users']:,} users, {data.catalogue.size:,} items, "
        f"{counts['interactions']:,} interactions",
        f"steps    {state.step:,} to {total_steps:,}, {epochs:,.1f} epochs of {plan.steps_per_epoch:,}; "
        f"a step has up to {config.train.global_batch:,} users",
        f"a step   {np.mean(distinct):,.0f} distinct items, at most {max(distinct):,}; at most {max(owned):,} of a rank, "
        f"of {ranks}; in chunks of {config.item.chunk}",
        f"reads    {_in_words(mean_read)} a step, {_in_words(mean_read * plan.steps_per_epoch)} an epoch, of "
        f"{_in_words(sum(shard.size for shard in data.store.shards))} of item shards{data.store.room()}{kept}",
        resident,
        *_activations(model.tower, max(owned), config),
        verdict,
    ]


def _memory(state: StateBytes, trained: int, total: int, config: Config, ranks: int) -> list[str]:
    """The lines on a rank's memory, and whether the device at hand has it."""
    offloaded = config.zero.offload_optimizer
    needed = state.on_device(offloaded)
    if torch.cuda.is_available():
        device, room = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    else:
        device, room = (
            f"this machine's memory, shared by {ranks} ranks",
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks,
        )
        needed = state.on_device(offload_optimizer=False)
    verdict = (
        f"fits {device}: {_in_words(room - needed)} of {_in_words(room)} are left for activations: "
        "lower item.chunk when those of a chunk do not fit"
        if needed < room
        else f"does not fit {device}, {_in_words(room)}: raise zero.stage, start more ranks, or set zero.offload_optimizer=true"
    )
    return [
        f"a rank   parameters {_in_words(state.parameters)}, gradients {_in_words(state.gradients)}, "
        f"optimizer {_in_words(state.optimizer)}{' of host memory' if offloaded else ''}: {total:,} parameters, "
        f"{trained:,} trained, {config.train.precision}, ZeRO-{config.zero.stage}",
        f"         {verdict}",
    ]


def _activations(tower: ItemTower, items: int, config: Config) -> list[str]:
    """The line on what the item tower's activations take, held and computed again, and which of the two the run will do."""
    if not tower.trained:
        return []
    item_bytes, chunk = saved_bytes(tower, torch.device("cpu"), training_dtype(config)), min(items, config.item.chunk)
    held, again = _in_words(items * item_bytes), _in_words(chunk * item_bytes)
    choice = {
        "auto": "held if half of the memory that is free when the run starts has room, else computed again chunk by chunk",
        "always": "computed again chunk by chunk",
        "never": "held",
    }[config.item.checkpoint]
    return [
        f"         activations of the item tower {_in_words(item_bytes)} an item: {held} where those of all are held, {again} of "
        f"a chunk; item.checkpoint={config.item.checkpoint}: {choice}"
    ]


def _in_words(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def main(arguments: Sequence[str]) -> None:
    """Describes a run: CONFIG [CONFIG ...] [key=value ...] --dry-run[=RANKS]."""
    flags = [argument for argument in arguments if argument.startswith(FLAG)]
    number = flags[-1].removeprefix(FLAG).removeprefix("=") or str(max(1, torch.cuda.device_count()))
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"{flags[-1]} is not {FLAG}=RANKS, with a number of 1 or more")
    given = [argument for argument in arguments if argument not in flags]
    if not given:
        raise ValueError(f"usage: mlrec train CONFIG [CONFIG ...] [key=value ...] {FLAG}[=RANKS]")
    print("\n".join(describe(configuration.load_arguments(given), int(number))))
