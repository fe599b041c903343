"""Floating-point operations: the count of a run, and the peak of a device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

MATRIX_SIZE = {"cpu": 512, "cuda": 8192}
"""Rows of the square matrices whose product measures the peak, by device.

On a CPU the product is short enough not to be interrupted."""
PRODUCTS = 30
"""Repetitions of the product; the fastest counts."""
ELEMENTWISE_VALUES = {"cpu": 1 << 20, "cuda": 1 << 24, "meta": 1 << 24}
"""Values per elementwise operation, by device: few enough for a CPU's cache, and enough to keep a
GPU busy. Simulations on the meta device have those of a GPU."""

LAYER_SHAPE = (2048, 256, 1024)
"""Rows, inputs and outputs of the product whose sustained rate is measured: about that of the
feed-forward layer of a small transformer."""
CALLS = 20
"""Calls of which the fastest counts."""

_aten = torch.ops.aten


def _convolution_backward_flops(
    gradient: torch.Tensor, values: torch.Tensor, weight: torch.Tensor, *args: Any, **kwargs: Any
) -> int:
    """Return the operations of a convolution's backward pass; as many for each of its gradients.

    torch's own formula multiplies those of the weight's gradient by the number of groups, which is
    a factor of hundreds in depthwise convolutions.
    """
    is_transposed = args[4]
    needs_gradient = args[7]
    positions = values if is_transposed else gradient
    products = positions.shape[0] * math.prod(positions.shape[2:]) * weight.numel()
    return int(2 * products * sum(needs_gradient[:2]))


_FORMULAS: dict[Any, Any] = {
    **flop_registry,
    # torch does not count the CPU's attention. Its operands have the same order.
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        _aten._scaled_dot_product_flash_attention
    ],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
    _aten.convolution_backward: _convolution_backward_flops,
}


def flops_of(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Return the operations of one call of an operator of torch; 0 for elementwise ones."""
    formula = _FORMULAS.get(func._overloadpacket)
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=out))


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counter of the operations of matrix products, convolutions and attention within its block.

    Backward and recomputed forwards count as well. torch's own FlopCounterMode also follows
    modules, and thereby holds tensors that activation checkpointing should free.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The default wraps __torch_dispatch__ for torch.compile, and imports torch._dynamo in the
        # first step, in 1.2 CPU seconds.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.total += flops_of(func, args, kwargs, out)
        return out


def now(device: torch.device) -> float:
    """Return the seconds of a clock after the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class SustainedRates(NamedTuple):
    """Rates that kernels of a training step reach on a CPU, per CPU second of a thread."""

    flops_per_s: float
    """Operations of matrix products."""
    bytes_per_s: float
    """Bytes that elementwise kernels read and write."""


def sustained_rates() -> SustainedRates:
    """Return the rates of this machine's processor, measured now.

    Products have the shape of a transformer's layer, and elementwise kernels compute GELU. Results
    go to new memory, as in a step. The fastest of several calls counts, in CPU seconds, because
    other work on the machine only makes a call slower.
    """
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(LAYER_SHAPE[:2], generator=generator)
    weight = torch.randn(LAYER_SHAPE[1:], generator=generator)
    wide = torch.randn(4 * ELEMENTWISE_VALUES["cpu"], generator=generator)
    product_s = _least_cpu_s(lambda: values @ weight)
    elementwise_s = _least_cpu_s(lambda: torch.nn.functional.gelu(wide))
    return SustainedRates(2.0 * math.prod(LAYER_SHAPE) / product_s, 2 * wide.nbytes / elementwise_s)


def _least_cpu_s(compute: Callable[[], torch.Tensor]) -> float:
    """Return the least CPU seconds of several calls, divided by the number of threads."""
    compute()
    times_s = []
    for _ in range(CALLS):
        started_at = time.process_time()
        compute()
        times_s.append(time.process_time() - started_at)
    return min(times_s) / torch.get_num_threads()


def matrix_product_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Return the peak of the device: operations per second of its fastest matrix product."""
    size = MATRIX_SIZE[device.type]
    # A generator of its own leaves the random numbers of the run unchanged.
    generator = torch.Generator(device).manual_seed(0)
    left = torch.randn(size, size, device=device, generator=generator).to(dtype)
    right = torch.randn(size, size, device=device, generator=generator).to(dtype)
    # The fastest of many: other work on the machine only makes a product slower.
    times_s = []
    for _ in range(PRODUCTS):
        started_at = now(device)
        torch.mm(left, right)
        times_s.append(now(device) - started_at)
    return 2.0 * size**3 / min(times_s)
