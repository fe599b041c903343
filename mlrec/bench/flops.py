"""Floating-point operations, counted as they run."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
_FORMULAS: dict[Any, Any] = {
    **flop_registry,
    # the CPU's attention, which torch does not count; it takes its operands in the same order
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[_aten._scaled_dot_product_flash_attention],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[_aten._scaled_dot_product_flash_attention_backward],
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
