"""Functions of torch and mlrec that ask for a GPU themselves, replaced while it is pretended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import _disable_current_modes

from pretended_gpu.device import GPU, GpuTensor, PretendedDevice, host_values
from pretended_gpu.state import GENERATOR, META, PINNED
from pretended_gpu.waits import RECORD, Kind

GIB = 1 << 30
META_TRIALS = (
    "mlrec.models.encoder_building.check_runs",
    "mlrec.models.simulation.simulate_tower",
    "mlrec.models.trial.trial_forward",
)
"""Functions of mlrec that run a module on the meta device, which is not the GPU there."""


class HostGenerator(torch.Generator):
    """A generator for any device, whose state is in host memory."""

    def __new__(cls, device: Any = "cpu") -> HostGenerator:
        del device
        generator: HostGenerator = super().__new__(cls, "cpu")
        return generator


def _synchronize(device: Any = None) -> None:
    del device
    RECORD.add(Kind.READ, "synchronize")


def _set_rng_state(state: torch.Tensor, device: Any = None) -> None:
    del device
    GENERATOR.state = state.clone()


def _nothing(*arguments: Any, **options: Any) -> None:
    del arguments, options


CUDA_FUNCTIONS: dict[str, Any] = {
    "_initialized": True,
    "_is_in_bad_fork": _nothing,
    "_lazy_init": _nothing,
    "check_error": _nothing,
    "cudart": lambda: PINNED,
    "current_device": lambda: 0,
    "device": lambda device: nullcontext(),
    "device_count": lambda: 1,
    "get_device_capability": lambda *device: (9, 0),
    "get_device_name": lambda *device: "a pretended GPU",
    "get_rng_state": lambda *device: GENERATOR.state.clone(),
    "is_available": lambda: True,
    "is_bf16_supported": lambda **options: True,
    "manual_seed_all": GENERATOR.seed,
    "max_memory_allocated": lambda *device: GIB,
    "mem_get_info": lambda *device: (40 * GIB, 80 * GIB),
    "memory_allocated": lambda *device: GIB,
    "memory_reserved": lambda *device: GIB,
    "reset_peak_memory_stats": _nothing,
    "set_rng_state": _set_rng_state,
    "synchronize": _synchronize,
}
ACCELERATOR_FUNCTIONS: dict[str, Any] = {
    "current_accelerator": lambda *arguments, **options: GPU,
    "current_device_index": lambda: 0,
    "is_available": lambda: True,
}


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let this process have a GPU within the context."""
    sparse_mm = torch.sparse.mm

    def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        # sparse matrices are dense on the pretended device
        return left @ right if isinstance(left, GpuTensor) else sparse_mm(left, right)

    health_check = "_accelerator_graph_capture_health_check"
    with ExitStack() as stack:
        stack.enter_context(patch.multiple(torch.cuda, **CUDA_FUNCTIONS))
        stack.enter_context(patch.multiple(torch.accelerator, **ACCELERATOR_FUNCTIONS))
        stack.enter_context(patch.object(torch, "Generator", HostGenerator))
        stack.enter_context(patch.object(torch.sparse, "mm", product))
        stack.enter_context(patch.object(torch.optim.Optimizer, health_check, _nothing))
        for name in META_TRIALS:
            stack.enter_context(patch(name, _outside_modes(name)))
        stack.enter_context(patch("mlrec.models.trial._empty_like", _without_value))
        stack.enter_context(_swapped_parameters())
        stack.enter_context(PretendedDevice())  # type: ignore[no-untyped-call]
        yield


def _without_value(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the meta device, for one on either device."""
    empty = torch.empty_like(host_values(tensor), device="meta")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(empty, requires_grad=False)
    return empty


def _outside_modes(name: str) -> Callable[..., Any]:
    """Return a function of mlrec that runs on real devices only."""
    module, _, attribute = name.rpartition(".")
    function = getattr(__import__(module, fromlist=[attribute]), attribute)

    def call(*arguments: Any, **options: Any) -> Any:
        with _disable_current_modes(), patch.object(META, "is_meant", True):
            return function(*arguments, **options)

    return call


@contextmanager
def _swapped_parameters() -> Iterator[None]:
    """Let `Module.to` keep its parameters' identities, and torch.tensor make tensors on the CPU."""
    swap_tensors = torch.utils.swap_tensors

    def swap(parameter: torch.Tensor, converted: torch.Tensor) -> None:
        if isinstance(parameter, GpuTensor):
            # it stays on the GPU, where torch sets the data
            parameter.data = converted
        else:
            swap_tensors(parameter, converted)

    torch.__future__.set_swap_module_params_on_conversion(True)
    # torch.tensor(..., device="cuda") makes the tensor on the CPU, and then copies it
    torch._C._set_only_lift_cpu_tensors(True)  # type: ignore[attr-defined]
    try:
        with patch("torch.utils.swap_tensors", swap):
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)  # type: ignore[attr-defined]
        torch.__future__.set_swap_module_params_on_conversion(False)
