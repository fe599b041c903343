"""AdamW's parameter groups and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from mlrec.config import Config, OptimConfig
from mlrec.config.durations import steps_of


def parameter_groups(
    model: nn.Module, encoders: Iterable[nn.Module], config: OptimConfig
) -> list[dict[str, Any]]:
    """Return the trained parameters in groups: recommender or encoder, with weight decay or without.

    Empty groups are left out. An encoder with its own learning rate or weight decay has two more
    groups, named encoder_0 and so on by its place.

    Biases, norms and position tables have no decay: a pull to zero is meant for the weights of
    products. An id table has decay, because its rows are item vectors.
    """
    part_of: dict[int, str] = {}
    rates = {
        "": (config.lr, config.weight_decay),
        "encoder": (config.encoder_lr, config.encoder_weight_decay),
    }
    for place, encoder in enumerate(encoders):
        lr, weight_decay = (getattr(encoder, name, None) for name in ("lr", "weight_decay"))
        part = "encoder" if lr is None and weight_decay is None else f"encoder_{place}"
        shared = rates["encoder"]
        rates[part] = (
            shared[0] if lr is None else lr,
            shared[1] if weight_decay is None else weight_decay,
        )
        part_of |= {id(parameter): part for parameter in encoder.parameters()}
    tables = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    } - set(part_of)
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and id(parameter) not in tables
            groups.setdefault((part_of.get(id(parameter), ""), decayed), []).append(parameter)
    return [
        {
            "params": groups[part, decayed],
            "name": f"{part or 'recommender'}/{'decay' if decayed else 'no_decay'}",
            "peak_lr": rates[part][0],
            "lr": rates[part][0],
            "weight_decay": rates[part][1] if decayed else 0.0,
        }
        for part, decayed in sorted(groups)
    ]


def build_optimizer(
    groups: list[dict[str, Any]], config: Config, device: torch.device
) -> torch.optim.Optimizer:
    """Return AdamW over the groups, in DeepSpeed's CPU version if its state is offloaded."""
    settings: dict[str, Any] = {"betas": tuple(config.optim.betas), "eps": config.optim.eps}
    if config.zero.offload_optimizer:
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
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return {group["name"]: group["lr"] for group in optimizer.param_groups}
