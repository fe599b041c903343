"""The precision of training on this machine's device: train.precision, and TF32.

`auto` is resolved once, after the ranks know their devices. Later code sees fp32, tf32 or bf16.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from mlrec.config import Config
from mlrec.runtime.devices import device_of
from mlrec.runtime.distributed import allow_tf32, gather_objects

_TENSOR_CORES = 8
"""First major compute capability with bf16 and TF32 (Ampere)."""


class Support(NamedTuple):
    """What a device computes natively."""

    device: str
    """Name of the device."""
    bf16: bool
    tf32: bool


def support_of(device: torch.device) -> Support:
    """Return what a device of this machine supports."""
    if device.type != "cuda":
        return Support("the CPU", bf16=False, tf32=False)
    # Emulated bf16 of older GPUs is slower than their fp32.
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    major, _ = torch.cuda.get_device_capability(device)
    return Support(torch.cuda.get_device_name(device), bf16, tf32=major >= _TENSOR_CORES)


def resolve_precision(config: Config, device: torch.device) -> Config:
    """Return the configuration with the precision of this run, and allow TF32 if it is tf32.

    Collective: all ranks compute in the same precision, which the devices of all must support.

    Raises:
        ValueError: train.precision is tf32, and a device has no TF32.
    """
    supports = gather_objects(support_of(device))
    # Every rank raises the same error, so that none waits for the others.
    without_tf32 = [support for support in supports if not support.tf32]
    least = (without_tf32 or supports)[0]
    has_bf16 = all(support.bf16 for support in supports)
    resolved = with_precision(config, least._replace(bf16=has_bf16))
    use_tf32_as_set(resolved)
    return resolved


def foresee_precision(config: Config, device: torch.device) -> tuple[Config, list[str]]:
    """Return the configuration as resolved for a run on this device, and notices about it.

    Raises:
        ValueError: as resolve_precision.
    """
    resolved = with_precision(config, support_of(device))
    notices = list(precision_notices(resolved, device))
    if config.train.precision == "auto" and device.type == "cpu" and config.zero.stage != 0:
        notices.append(
            "train.precision=auto is fp32 on this machine, and bf16 on GPUs that support it"
        )
    return resolved, notices


def with_precision(config: Config, support: Support) -> Config:
    """Return the configuration with the precision that it has on such a device.

    `auto` is bf16 where the device computes it natively, else fp32. With zero.stage=0 it is fp32,
    because only the other stages keep the fp32 weights that bf16 needs.

    Raises:
        ValueError: train.precision is tf32, and the device has no TF32.
    """
    precision = config.train.precision
    if precision == "auto":
        precision = "bf16" if support.bf16 and config.zero.stage != 0 else "fp32"
    if precision == "tf32" and not support.tf32:
        raise ValueError(
            f"train.precision is tf32, which {support.device} does not support. TF32 needs a GPU "
            "of compute capability 8.0 or higher. Set train.precision to auto or fp32"
        )
    return replace(config, train=replace(config.train, precision=precision))


def use_tf32_as_set(config: Config) -> None:
    """Allow or forbid TF32 in this process as the configuration says.

    Devices without TF32 ignore it, so a run in tf32 can be evaluated on any device.
    """
    allow_tf32(config.train.precision == "tf32")


def precision_notices(config: Config, device: torch.device) -> Iterator[str]:
    """Yield that the precision is slow on this device; without a full stop."""
    support = support_of(device)
    # A CPU without bf16 has no precision that is faster.
    if device.type == "cuda" or support.bf16:
        yield from gpu_precision_notices(config, support)


def gpu_precision_notices(config: Config, support: Support) -> Iterator[str]:
    """Yield that a GPU emulates bf16, or that fp32 is slow on one with bf16; without a full stop.

    Args:
        config: with its precision resolved.
    """
    if config.train.precision == "fp32" and support.bf16:
        yield slow_fp32(config, support.device)
    if config.train.precision == "bf16" and not support.bf16:
        yield (
            f"train.precision is bf16, which {support.device} does not support: torch emulates it, "
            "slower than fp32. Set train.precision=fp32"
        )


def slow_fp32(config: Config, device: str) -> str:
    """Return the notice that fp32 is slow on a device with bf16.

    Args:
        device: name of the device in torch. The slowdown is left out if its figures are unknown.
    """
    row = device_of(device)
    slowdown = f"about {row.fp32_slowdown:.0f} times as long as" if row else "much longer than"
    # bf16 needs the fp32 weights that ZeRO keeps
    stage = " and zero.stage to auto" if config.zero.stage == 0 else ""
    return (
        f"train.precision is fp32 on {device}, where steps of large encoders such as VideoMAE are "
        f"expected to take {slowdown} in bf16. Set train.precision to bf16{stage}, or to tf32, "
        "which keeps fp32 weights"
    )
