"""Formulas for the time of a step (seconds)."""

from __future__ import annotations

from dataclasses import dataclass

OPTIMIZER_PASSES = 7
"""Values that AdamW reads and writes per parameter, in fp32: weight, gradient and two moments, and
all but the gradient again."""
JPEG_PIXELS_PER_S = 224 * 224 / 0.2e-3
"""Pixels of JPEG frames that a core decodes per second: 0.2 ms for 224 x 224."""
HOST_COPY_BYTES_PER_S = 2e10
"""Bytes per second from page-locked host memory to a GPU: 80 % of PCIe 4.0 with 16 lanes."""
EXCHANGE_EFFICIENCY = 0.7
"""Share of an interconnect's peak that collective operations reach."""
NETWORK_BYTES_PER_S = 1.25e10
"""Peak between machines per GPU (bytes/s): 100 Gbit/s."""


@dataclass(frozen=True)
class StepSeconds:
    """Time of a step on a rank by part (seconds)."""

    encode: float
    """The item tower's chunks, forward and backward, and the copies of their media."""
    recommend: float | None
    """Recommender and loss, forward and backward; None if unknown."""
    exchange: float
    """Item vectors, gradients and weights that are sent to other ranks."""
    optimizer: float
    load: float
    """A step's media in the loader."""
    loads_ahead: bool
    """Whether the loader works at the same time as the other parts."""

    @property
    def device(self) -> float:
        """Time of the parts that run one after another, as far as it is known."""
        return self.encode + (self.recommend or 0.0) + self.exchange + self.optimizer

    @property
    def step(self) -> float:
        """Time of the step: that of the slower of device and loader."""
        if not self.loads_ahead:
            return self.device + self.load
        return max(self.device, self.load)

    @property
    def waits_for_loader(self) -> bool:
        """Whether the loader takes longer than the device."""
        return self.load > self.device


def exchange_bytes(
    vectors_bytes: float, gradient_bytes: float, weight_bytes: float, stage: int, passes: float
) -> float:
    """Return the bytes that a rank receives in a step.

    Item vectors are gathered forward, and their gradients reduced backward. Gradients are reduced:
    all of them on every rank at stage 0, each part on its rank from stage 1 on, whose new weights
    are then gathered. At stage 3 weights are gathered in every pass of a chunk instead.

    Args:
        vectors_bytes: of all items of the step.
        gradient_bytes: of all trained parameters.
        weight_bytes: of all parameters.
        stage: ZeRO stage.
        passes: forward, recomputed and backward passes of the step's chunks.
    """
    weights = passes * weight_bytes if stage == 3 else gradient_bytes
    return 2 * vectors_bytes + gradient_bytes + weights


def exchange_s(received: float, ranks: int, nodes: int, interconnect_bytes_per_s: float) -> float:
    """Return the time in which a rank receives these bytes from the others.

    A ring sends each rank (ranks - 1) / ranks of them, at EXCHANGE_EFFICIENCY of the interconnect's
    peak, or at NETWORK_BYTES_PER_S if there are several nodes.

    Args:
        interconnect_bytes_per_s: within a node; 0 if unknown, which counts as none.
    """
    peak = NETWORK_BYTES_PER_S if nodes > 1 else interconnect_bytes_per_s
    if ranks == 1 or not peak:
        return 0.0
    return received * (ranks - 1) / ranks / (EXCHANGE_EFFICIENCY * peak)


def host_copy_s(num_bytes: float) -> float:
    """Return the time to copy media or cached activations to a GPU."""
    return num_bytes / HOST_COPY_BYTES_PER_S


def optimizer_s(trained_on_rank: float, bytes_per_s: float) -> float:
    """Return the time of AdamW's update: OPTIMIZER_PASSES fp32 values per parameter."""
    return OPTIMIZER_PASSES * 4 * trained_on_rank / bytes_per_s


def decode_s(items: float, pixels: int, workers: int) -> float:
    """Return the time in which a rank's loader decodes the frames of its items.

    Args:
        pixels: of all frames of an item.
        workers: loader processes, each with a core of its own; without any, training waits.
    """
    return items * pixels / JPEG_PIXELS_PER_S / max(1, workers)
