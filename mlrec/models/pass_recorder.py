"""Record what a forward and backward pass costs, on the meta device or on a real one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlrec.models.pass_cost import PassCost, Work
from mlrec.runtime.flops import flops_of

_ALLOCATIONS = {torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.new_empty}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Recorder of a device's kernels and live bytes within its block."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kind = device.type
        self.live_bytes = 0
        self.peak_bytes = 0
        self._storages: weakref.WeakKeyDictionary[torch.UntypedStorage, None]
        self._storages = weakref.WeakKeyDictionary()
        self._kernels: list[tuple[float, float, bool]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # As in FlopCounter: the default imports torch._dynamo.
        return False

    def ignore(self, tensors: Iterator[torch.Tensor]) -> None:
        """Leave the storages of these tensors out of the live bytes."""
        for tensor in tensors:
            self._storages[tensor.untyped_storage()] = None

    def take(self, trained_only: bool = False) -> Work:
        """Return the kernels since the last `clear`."""
        rows = [row[:2] for row in self._kernels if row[2] or not trained_only]
        table = np.array(rows, dtype=np.float64).reshape(-1, 2)
        return Work(table[:, 0], table[:, 1])

    def clear(self) -> None:
        """Forget the kernels, and count live bytes on."""
        self._kernels.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        outputs = self._on_device(out)
        makes_tensors = self._count_new(outputs)
        # Views and allocations launch nothing.
        launches = makes_tensors or (outputs and func._schema.is_mutable)
        if launches and func._overloadpacket not in _ALLOCATIONS:
            inputs = self._on_device((args, kwargs))
            num_bytes = sum(_bytes_of(tensor) for tensor in (*inputs, *outputs))
            trained = any(tensor.requires_grad for tensor in inputs)
            self._kernels.append((flops_of(func, args, kwargs, out), num_bytes, trained))
        return out

    def _on_device(self, tree: Any) -> list[torch.Tensor]:
        """Return the tensors on the device; what the host computes meanwhile costs it nothing."""
        tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
        return [tensor for tensor in tensors if tensor.device.type == self._kind]

    def _count_new(self, tensors: list[torch.Tensor]) -> bool:
        """Count the storages that are new, until they are freed; return whether any is."""
        any_new = False
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage in self._storages:
                continue
            any_new = True
            self._storages[storage] = None
            self.live_bytes += storage.nbytes()
            weakref.finalize(storage, self._free, storage.nbytes())
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return any_new

    def _free(self, num_bytes: int) -> None:
        self.live_bytes -= num_bytes


class FlashAttention(TorchFunctionMode):
    """Attention that holds no matrix of weights, as the kernels of GPUs and CPUs do.

    On the meta device torch would choose the kernel that holds it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            return _attend(*args, **kwargs)
        return func(*args, **kwargs)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    # A trained bias, such as Swin's, has a gradient, and so do the weights of attention.
    if attn_mask is not None and attn_mask.requires_grad:
        return scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    attended: torch.Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]
    return attended


def record_pass(forward: Callable[[], torch.Tensor], module: nn.Module, items: int) -> PassCost:
    """Run `forward` and its backward pass, and return their cost.

    Args:
        forward: returns the output of a pass over `items` items. Inputs that it creates count as
            live; tensors that exist already do not.
        module: its parameters and their gradients do not count as live.
    """
    # The first forward makes what later ones use again: casts of frozen batch norms, constants.
    with torch.no_grad(), FlashAttention():
        forward()
    parameters = [p for p in module.parameters() if p.requires_grad]
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        # They exist from the second chunk on.
        parameter.grad = torch.empty_like(parameter)
    recorder = _Recorder(next(module.parameters()).device)
    recorder.ignore(p for p in (*module.parameters(), *module.buffers()))
    recorder.ignore(p.grad for p in parameters if p.grad is not None)
    try:
        with torch.enable_grad(), FlashAttention(), recorder:
            output = forward()
            forward_work = recorder.take()
            trained_work = recorder.take(trained_only=True)
            saved_bytes = recorder.live_bytes
            recorder.clear()
            if output.requires_grad:
                output.backward(torch.empty_like(output))  # type: ignore[no-untyped-call]
            backward_work = recorder.take()
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    peak_bytes = recorder.peak_bytes
    return PassCost(items, forward_work, trained_work, backward_work, saved_bytes, peak_bytes)


def _bytes_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.itemsize
