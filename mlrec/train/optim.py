"""AdamW's parameter groups and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from mlrec.config import Config, OptimConfig
from mlrec.config.durations import steps_of


class Rates(NamedTuple):
    """Hyperparameters of a parameter group."""

    lr: float
    """Peak learning rate."""
    weight_decay: float


def parameter_groups(
    model: nn.Module, encoders: Iterable[nn.Module], config: OptimConfig
) -> list[dict[str, Any]]:
    """Return the trained parameters in groups by part and weight decay.

    The parts are recommender and encoder. An encoder with its own learning rate or weight decay is
    another part, named encoder_0 and so on by its place. Empty groups are left out.
    """
    rates = {"recommender": Rates(config.lr, config.weight_decay)}
    part_of: dict[int, str] = {}
    for place, encoder in enumerate(encoders):
        part, encoder_rates = _encoder_rates(place, encoder, config)
        rates[part] = encoder_rates
        for parameter in encoder.parameters():
            part_of[id(parameter)] = part

    # Biases, norms and position tables have no decay: a pull to zero is meant for the weights of
    # products. An id table is an encoder and has decay, because its rows are item vectors.
    position_tables = set()
    for module in model.modules():
        if isinstance(module, nn.Embedding) and id(module.weight) not in part_of:
            position_tables.add(id(module.weight))
    members: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            part = part_of.get(id(parameter), "recommender")
            decays = parameter.ndim > 1 and id(parameter) not in position_tables
            members.setdefault((part, decays), []).append(parameter)

    groups = []
    # All ranks need the same order, because ZeRO partitions one group after the other.
    for part, decays in sorted(members, key=_group_order):
        groups.append(
            {
                "params": members[part, decays],
                "name": f"{part}/{'decay' if decays else 'no_decay'}",
                "peak_lr": rates[part].lr,
                "lr": rates[part].lr,
                "weight_decay": rates[part].weight_decay if decays else 0.0,
            }
        )
    return groups


def _group_order(group: tuple[str, bool]) -> tuple[bool, str, bool]:
    """Return the sort key of a group: the recommender first, then encoders, decay last."""
    part, decays = group
    return part != "recommender", part, decays


def _encoder_rates(place: int, encoder: nn.Module, config: OptimConfig) -> tuple[str, Rates]:
    """Return the part that an encoder belongs to, and its rates."""
    own_lr = getattr(encoder, "lr", None)
    own_weight_decay = getattr(encoder, "weight_decay", None)
    if own_lr is None and own_weight_decay is None:
        return "encoder", Rates(config.encoder_lr, config.encoder_weight_decay)
    lr = config.encoder_lr if own_lr is None else own_lr
    weight_decay = config.encoder_weight_decay if own_weight_decay is None else own_weight_decay
    return f"encoder_{place}", Rates(lr, weight_decay)


def build_optimizer(
    groups: list[dict[str, Any]], config: Config, device: torch.device
) -> torch.optim.Optimizer:
    """Return AdamW over the groups, in DeepSpeed's CPU version if its state is offloaded."""
    settings: dict[str, Any] = {"betas": tuple(config.optim.betas), "eps": config.optim.eps}
    if config.zero.offload_optimizer:
        # The import may compile an extension, which only offloading needs.
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **settings)  # type: ignore[no-any-return]
    return torch.optim.AdamW(groups, fused=device.type == "cuda", **settings)


def schedule(config: OptimConfig, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Return the factor on every peak learning rate at `step`, which counts from 0.

    It grows linearly during warm-up, and then follows optim.schedule.
    """
    warmup = steps_of(config.warmup, steps_per_epoch, total_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    shapes = {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(1.0, progress))),
        "step": 0.1 ** min(2, int(3 * progress)),
    }
    return shapes[config.schedule]


def set_learning_rates(optimizer: Any, factor: float) -> dict[str, float]:
    """Set every group to its peak learning rate times `factor`, and return the rates by group."""
    rates = {}
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
        rates[group["name"]] = group["lr"]
    return rates
