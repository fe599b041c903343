"""Cost of a forward and backward pass: its kernels, arithmetic and memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
    overhead_ratio: float = 2.0
    """Least ratio of a chunk's work to its overhead, for the choice of the chunk's size."""

    def pass_s(self, device_s: float, kernels: int) -> float:
        """Return the time of a pass whose kernels take `device_s` on the device (seconds)."""
        launches_s = kernels * self.launch_s
        return max(device_s, launches_s) if self.asynchronous else device_s + launches_s


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
    counts_work: bool = True
    """Whether `forward` and `backward` are known; if not, they are empty."""


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

    def forward_flops(self, items: float, trained_only: bool = False) -> float:
        """Return the operations of a chunk's forward pass.

        Args:
            trained_only: leave out the frozen stages, whose activations are cached.
        """
        small, large = self._forward(trained_only)
        return self._at(items, small.flops, large.flops)

    def backward_flops(self, items: float) -> float:
        """Return the operations of a chunk's backward pass."""
        return self._at(items, self.small.backward.flops, self.large.backward.flops)

    def forward_s(self, items: float, rates: Rates, trained_only: bool = False) -> float:
        """Return the time of a chunk's forward pass (seconds).

        Args:
            trained_only: leave out the frozen stages, whose activations are cached.
        """
        return self._pass_s(items, self._forward(trained_only), rates)

    def _forward(self, trained_only: bool) -> tuple[Work, Work]:
        if trained_only:
            return self.small.trained_forward, self.large.trained_forward
        return self.small.forward, self.large.forward

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


def _device_s(cost: PassCost, rates: Rates) -> float:
    return cost.forward.device_s(rates) + cost.backward.device_s(rates)
