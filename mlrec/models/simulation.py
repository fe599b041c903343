"""Simulate a forward and backward pass on tensors without values, for what it would cost.

The simulation runs the model's own code on the meta device. It takes a second, no weights and no
memory, and tells for each kernel how many operations and bytes it takes, and for each moment how
many bytes are alive. Both are exact but for what a device's library chooses itself: workspaces of
convolutions, and a CPU's reordered copies.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlrec.data.decoders import DECODERS
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.batchnorm import repeated
from mlrec.models.random_media import random_media
from mlrec.models.tower import ItemTower
from mlrec.models.trial import without_values
from mlrec.runtime.flops import flops_of

META = torch.device("meta")
SIMULATED_ITEMS = (8, 16)
"""Sizes of the two chunks that are simulated."""
TRIED_ITEMS = (2, 4)
"""Sizes of the two chunks that are encoded where a simulation is not possible."""
_ALLOCATIONS = {torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.new_empty}
MAX_TRIED_WEIGHTS = 4_000_000
"""Weights of tables of ids below which they are tried instead of simulated."""


@dataclass(frozen=True)
class Rates:
    """Rates that a device reaches in training."""

    flops_per_s: float
    """Operations per second of matrix products and convolutions."""
    bytes_per_s: float
    """Bytes per second that other kernels read and write."""
    launch_s: float
    """Seconds per kernel that the host takes to launch it."""
    asynchronous: bool = True
    """Whether the host launches kernels while the device computes; False on a CPU."""

    def pass_s(self, device_s: float, kernels: int) -> float:
        """Return the time of a pass whose kernels take `device_s` on the device (seconds)."""
        launches_s = kernels * self.launch_s
        return max(device_s, launches_s) if self.asynchronous else device_s + launches_s

    overhead_ratio: float = 2.0
    """Least ratio of a chunk's work to its overhead, for the choice of the chunk's size."""


@dataclass(frozen=True)
class Work:
    """The kernels of a pass, in their order."""

    flops_K: np.ndarray
    """Floating-point operations of each kernel, float64; 0 for elementwise ones."""
    bytes_K: np.ndarray
    """Bytes that each kernel reads and writes, float64."""

    @property
    def kernels(self) -> int:
        """Number of kernels, each of which the host launches."""
        return len(self.flops_K)

    @property
    def flops(self) -> float:
        """Floating-point operations of all kernels."""
        return float(self.flops_K.sum())

    def __add__(self, other: Work) -> Work:
        return Work(
            np.concatenate([self.flops_K, other.flops_K]),
            np.concatenate([self.bytes_K, other.bytes_K]),
        )

    def device_s(self, rates: Rates) -> float:
        """Return the time of the pass on a device that never waits for its host (seconds).

        Each kernel takes the longer of its arithmetic and its memory traffic (the roofline model,
        Williams et al., 2009).
        """
        arithmetic_s = self.flops_K / rates.flops_per_s
        traffic_s = self.bytes_K / rates.bytes_per_s
        return float(np.maximum(arithmetic_s, traffic_s).sum())

    def seconds(self, rates: Rates) -> float:
        """Return the time of the pass, with the launches as the host and the device share them
        (seconds)."""
        return rates.pass_s(self.device_s(rates), self.kernels)


NO_WORK = Work(np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class PassCost:
    """Cost of one forward and backward pass over `items` items."""

    items: int
    forward: Work
    trained_forward: Work
    """Part of the forward pass that has a gradient: what follows the frozen stages."""
    backward: Work
    saved_bytes: int
    """Tensors that the forward pass holds for the backward pass, with its inputs and output."""
    peak_bytes: int
    """Most bytes alive at a time, without parameters and their gradients."""


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


class _FlashAttention(TorchFunctionMode):
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


def simulate(forward: Callable[[], torch.Tensor], module: nn.Module, items: int) -> PassCost:
    """Run `forward` and its backward pass, and return their cost.

    Args:
        forward: returns the output of a pass over `items` items. Inputs that it creates count as
            live; tensors that exist already do not.
        module: its parameters and their gradients do not count as live.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        # They exist from the second chunk on.
        parameter.grad = torch.empty_like(parameter)
    recorder = _Recorder(next(module.parameters()).device)
    recorder.ignore(p for p in (*module.parameters(), *module.buffers()))
    recorder.ignore(p.grad for p in parameters if p.grad is not None)
    try:
        with torch.enable_grad(), _FlashAttention(), recorder:
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


def simulate_tower(tower: ItemTower, items: int, dtype: torch.dtype) -> PassCost:
    """Return the cost of encoding `items` items at once, all stages, on some device.

    Args:
        tower: on any device; it is left as it was.
        items: at least 2, because a single item has no variance that batch norms normalize by.
        dtype: of parameters in training.
    """
    with _without_cache(tower):
        copied = as_trained_without_values(tower, dtype)
    assert isinstance(copied, ItemTower)

    def forward() -> torch.Tensor:
        media = {}
        for spec in copied.specs:
            media[spec] = media_without_values(spec, items)
        with copied.drawing(torch.empty(items, dtype=torch.int64, device=META)):
            vectors: torch.Tensor = copied(media)
        return vectors

    # The first forward makes what later ones use again, such as casts of frozen batch norms.
    with torch.no_grad(), _FlashAttention():
        forward()
    return simulate(forward, copied, items)


def as_trained_without_values(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy on the meta device, in training mode and with parameters of this dtype."""
    copied = without_values(module)
    for original, parameter in zip(module.parameters(), copied.parameters(), strict=True):
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(original.requires_grad)
    return copied.train()


def _try_tower(tower: ItemTower, items: int, dtype: torch.dtype) -> PassCost:
    """Return the cost of encoding random items, with the tower's own weights and in their dtype."""
    is_training = tower.training
    # Encoders with a frozen prefix may be on the device already, and the rest on the host.
    devices = {parameter.device for parameter in tower.parameters()}
    device = max(devices, key=lambda device: device.type != "cpu")
    tower.to(device).train()

    def forward() -> torch.Tensor:
        media = {}
        for spec in tower.specs:
            is_id = spec.modality is Modality.ID
            inputs = torch.arange(1, items + 1) if is_id else random_media(spec, items)
            media[spec] = inputs.to(device)
        with tower.drawing(torch.arange(items, device=device)):
            vectors: torch.Tensor = tower(media)
        return vectors

    # Batch norms must not count these items.
    with repeated(tower.encoders):
        cost = simulate(forward, tower, items)
    tower.train(is_training)
    share = dtype.itemsize / next(tower.parameters()).dtype.itemsize
    return replace(
        cost,
        saved_bytes=int(share * cost.saved_bytes),
        peak_bytes=int(share * cost.peak_bytes),
    )


@dataclass(frozen=True)
class TowerCost:
    """Cost of encoding a chunk of items, forward and backward, as a function of their number.

    Each figure is a line through those of two simulations.
    """

    small: PassCost
    large: PassCost

    @property
    def kernels(self) -> int:
        """Kernels of a chunk, forward and backward."""
        return self.large.forward.kernels + self.large.backward.kernels

    def saved_bytes(self, items: int) -> float:
        """Return what a chunk holds for its backward pass (bytes)."""
        return self._at(items, self.small.saved_bytes, self.large.saved_bytes)

    def peak_bytes(self, items: int) -> float:
        """Return the most that a chunk takes in its forward and backward pass (bytes)."""
        return self._at(items, self.small.peak_bytes, self.large.peak_bytes)

    def forward_flops(self, items: float) -> float:
        """Return the operations of a chunk's forward pass."""
        return self._at(items, self.small.forward.flops, self.large.forward.flops)

    def backward_flops(self, items: float) -> float:
        """Return the operations of a chunk's backward pass."""
        return self._at(items, self.small.backward.flops, self.large.backward.flops)

    def forward_s(self, items: float, rates: Rates, trained_only: bool = False) -> float:
        """Return the time of a chunk's forward pass (seconds).

        Args:
            trained_only: leave out the frozen stages, whose activations are cached.
        """
        if trained_only:
            works = (self.small.trained_forward, self.large.trained_forward)
        else:
            works = (self.small.forward, self.large.forward)
        return self._pass_s(items, works, rates)

    def backward_s(self, items: float, rates: Rates) -> float:
        """Return the time of a chunk's backward pass (seconds)."""
        return self._pass_s(items, (self.small.backward, self.large.backward), rates)

    def _pass_s(self, items: float, works: tuple[Work, Work], rates: Rates) -> float:
        device_s = self._at(items, *(work.device_s(rates) for work in works))
        return rates.pass_s(device_s, works[1].kernels)

    def item_s(self, rates: Rates) -> float:
        """Return the device's time for one more item in a chunk (seconds)."""
        more_s = _device_s(self.large, rates) - _device_s(self.small, rates)
        return max(0.0, more_s / (self.large.items - self.small.items))

    def fixed_s(self, rates: Rates) -> float:
        """Return the device's time for a chunk that depends on no item (seconds)."""
        return max(0.0, _device_s(self.small, rates) - self.small.items * self.item_s(rates))

    def _at(self, items: float, small: float, large: float) -> float:
        slope = (large - small) / (self.large.items - self.small.items)
        return max(0.0, small + (items - self.small.items) * slope)


def tower_cost(tower: ItemTower, dtype: torch.dtype) -> TowerCost:
    """Return the cost of the tower's chunks.

    Where an encoder reads values, which the meta device lacks, it encodes random items instead.

    Args:
        tower: on any device; it is left as it was.
        dtype: of parameters in training.
    """
    if not _is_small_table(tower):
        try:
            return TowerCost(*[simulate_tower(tower, items, dtype) for items in SIMULATED_ITEMS])
        except (NotImplementedError, RuntimeError):
            pass  # an operation that torch has for real tensors only
    return TowerCost(*[_try_tower(tower, items, dtype) for items in TRIED_ITEMS])


def _is_small_table(tower: ItemTower) -> bool:
    """Return whether trying the tower is cheaper than a simulation, which imports torch._dynamo in
    1.2 CPU seconds."""
    num_weights = sum(parameter.numel() for parameter in tower.parameters())
    is_table = all(spec.modality is Modality.ID for spec in tower.specs)
    return is_table and num_weights < MAX_TRIED_WEIGHTS


@contextmanager
def _without_cache(tower: ItemTower) -> Iterator[None]:
    """Take the activation cache, which is large, off the tower within the context."""
    cache = tower.activation_cache
    tower.activation_cache = None
    try:
        yield
    finally:
        tower.activation_cache = cache


def media_without_values(spec: InputSpec, count: int) -> torch.Tensor:
    """Return media of `count` items on the meta device, in the encoder's shape and dtype."""
    decoder = DECODERS[spec.modality]
    return torch.empty((count, *decoder.shape(spec)), dtype=decoder.dtype, device=META)


def _device_s(cost: PassCost, rates: Rates) -> float:
    return cost.forward.device_s(rates) + cost.backward.device_s(rates)


def _bytes_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.itemsize
