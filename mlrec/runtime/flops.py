"""Floating-point operations: counted as they run, and how many a device can do."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

MATRIX_SIZE = {"cpu": 512, "cuda": 8192}
"""Rows and columns of the square matrices whose product is the device's peak; on a CPU small enough to run uninterrupted."""
PRODUCTS = 30
AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 24}
"""Numbers that elementwise work takes in one go: few enough to stay in a CPU's cache, enough to keep a GPU busy."""

_aten = torch.ops.aten
_FORMULAS: dict[Any, Any] = {
    **flop_registry,
    # the CPU's attention, which torch does not count; it takes its operands in the same order
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        _aten._scaled_dot_product_flash_attention
    ],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
}


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts matrix products, convolutions and attention within it, backward and repeated forwards included.

    Torch's FlopCounterMode follows modules as well, and so keeps what activation checkpointing should free.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (formula := _FORMULAS.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


def now(device: torch.device) -> float:
    """Seconds on a clock, once the device has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def matrix_product_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """The device's peak: floating-point operations per second of its fastest product of square matrices."""
    size = MATRIX_SIZE[device.type]
    generator = torch.Generator(device).manual_seed(0)  # not the one that a run draws from
    left, right = (
        torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2)
    )
    times = []
    for _ in range(PRODUCTS):
        began = now(device)
        torch.mm(left, right)
        times.append(now(device) - began)
    return 2.0 * size**3 / min(times)
