"""Activation checkpointing of the item tower's chunks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mlrec.models.batchnorm import repeated


def run_checkpointed(
    encode: Callable[[], torch.Tensor], encoders: nn.Module, device: torch.device
) -> torch.Tensor:
    """Run `encode` now, and again in the backward pass instead of holding activations.

    Args:
        encoders: their batch norms must not count the recomputation in their statistics.
        device: of the encoders.
    """
    # Dropout of pretrained encoders draws from torch's generators. For the recomputation torch
    # restores those of the devices that the arguments are on, hence an argument on the device.
    on_device = torch.empty(0, device=device)
    encoded: torch.Tensor = checkpoint(
        lambda on_device: encode(),
        on_device,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), repeated(encoders)),
    )
    return encoded
