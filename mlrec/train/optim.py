"""AdamW's parameter groups and the learning rate as a function of the step."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mlrec.config import Config, OptimConfig
from mlrec.config.durations import steps_of
from mlrec.runtime.terminal import say
from mlrec.train.adamw import AdamW

STAGE = "/stage_"
"""Text between the name of an encoder's part and the depth of a stage, from 00."""


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
    another part, named encoder_0 and so on by its place. With optim.layer_decay each stage before
    an encoder's last one is a part, named encoder/stage_00 and so on. Empty groups are left out.

    Raises:
        ValueError: optim.layer_decay is set, but no stage before an encoder's last one is trained.
    """
    rates = {"recommender": Rates(config.lr, config.weight_decay)}
    part_of: dict[int, str] = {}
    for place, encoder in enumerate(encoders):
        part, own_rates = encoder_rates(place, encoder, config)
        rates[part] = own_rates
        for parameter in encoder.parameters():
            part_of[id(parameter)] = part
        if config.layer_decay != 1:
            _split_by_stage(encoder, part, own_rates, config.layer_decay, rates, part_of)

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
    if config.layer_decay != 1:
        _check_stages_trained(config, members)

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


def encoder_rates(place: int, encoder: nn.Module, config: OptimConfig) -> tuple[str, Rates]:
    """Return the part that an encoder belongs to, and its rates."""
    own_lr = getattr(encoder, "lr", None)
    own_weight_decay = getattr(encoder, "weight_decay", None)
    if own_lr is None and own_weight_decay is None:
        return "encoder", Rates(config.encoder_lr, config.encoder_weight_decay)
    lr = config.encoder_lr if own_lr is None else own_lr
    weight_decay = config.encoder_weight_decay if own_weight_decay is None else own_weight_decay
    return f"encoder_{place}", Rates(lr, weight_decay)


def _split_by_stage(
    encoder: nn.Module,
    part: str,
    encoder_rates: Rates,
    layer_decay: float,
    rates: dict[str, Rates],
    part_of: dict[int, str],
) -> None:
    """Make each stage before the encoder's last one a part with a lower learning rate.

    Parameters of the last stage and of no stage, such as a side network's, stay in `part`.
    """
    stages = encoder.stages()  # type: ignore[operator]  # every encoder is an Encoder
    for depth, stage in enumerate(stages[:-1]):
        stage_part = f"{part}{STAGE}{depth:02d}"
        # Clark et al., ELECTRA, 2020: the rate of a stage falls with its distance from the last.
        lr = encoder_rates.lr * layer_decay ** (len(stages) - 1 - depth)
        rates[stage_part] = Rates(lr, encoder_rates.weight_decay)
        for parameter in stage.parameters():
            part_of[id(parameter)] = stage_part


def _check_stages_trained(config: OptimConfig, members: Iterable[tuple[str, bool]]) -> None:
    """Check that a part of some stage is trained.

    Raises:
        ValueError: none is.
    """
    if not any(STAGE in part for part, _ in members):
        raise ValueError(
            f"optim.layer_decay is {config.layer_decay} and has no effect: no stage before an "
            "encoder's last one is trained. Remove it, or set item.tuning to train several stages"
        )


def part_for_logs(group: str) -> str:
    """Return the part of a group without its stage, such as "encoder"."""
    return group.split("/")[0]


def build_optimizer(groups: list[dict[str, Any]], config: Config) -> torch.optim.Optimizer:
    """Return AdamW over the groups, in DeepSpeed's CPU version if its state is offloaded."""
    settings: dict[str, Any] = {"betas": tuple(config.optim.betas), "eps": config.optim.eps}
    if config.zero.offload_optimizer:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        _announce_compilation()
        return DeepSpeedCPUAdam(groups, adamw_mode=True, **settings)  # type: ignore[no-any-return]

    from deepspeed.runtime.zero.utils import ZERO_SUPPORTED_OPTIMIZERS

    # DeepSpeed looks for the type itself, and warns of others.
    if AdamW not in ZERO_SUPPORTED_OPTIMIZERS:
        ZERO_SUPPORTED_OPTIMIZERS.append(AdamW)
    return AdamW(groups, fused=True, **settings)


def _announce_compilation() -> None:
    """Say that DeepSpeed is about to compile its CPU version of Adam, unless it is compiled.

    Every rank waits for the compilation; rank 0 says so.
    """
    from deepspeed.git_version_info import installed_ops
    from deepspeed.ops.op_builder import CPUAdamBuilder
    from torch.utils.cpp_extension import _get_build_directory

    name = CPUAdamBuilder.NAME
    is_compiled = (Path(_get_build_directory(name, verbose=False)) / f"{name}.so").exists()
    if is_compiled or installed_ops.get(name) or os.environ.get("RANK", "0") != "0":
        return
    say(
        "DeepSpeed compiles its Adam for zero.offload_optimizer, once on this machine: about two "
        "minutes",
        error=True,
        flush=True,
    )


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


def average_decay(ema: float, updates: int) -> float:
    """Return the decay of the moving average of weights after this number of updates, from 1.

    It grows with the updates up to train.ema, so that the average leaves the initial weights
    quickly (the formula of `num_updates` in TensorFlow's ExponentialMovingAverage).
    """
    return min(ema, (1 + updates) / (10 + updates))


def set_learning_rates(optimizer: Any, factor: float) -> dict[str, float]:
    """Set every group to its peak learning rate times `factor`, and return the rates by group."""
    rates = {}
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
        rates[group["name"]] = group["lr"]
    return rates
