"""Formulas for rates of devices and for the chunks in which a step's items are encoded."""

from __future__ import annotations

import torch

from mlrec.models.pass_cost import Rates, TowerCost
from mlrec.runtime.devices import DEVICES, Device, Precision, device_of

ACTIVATION_SHARE = 0.5
"""Share of the free memory for activations. The rest is for the recommender, kernels' workspaces
and fragmentation."""
MATRIX_EFFICIENCY = 0.5
"""Share of a GPU's peak that matrix products of a training step reach."""
TRAFFIC_EFFICIENCY = 0.8
"""Share of a GPU's memory bandwidth that other kernels reach."""
CPU_EFFICIENCY = 0.8
"""Share of the rates of large products and of GELU, measured alone, that a step on a CPU reaches.

Fitted to single steps of a small VideoMAE, Swin and BERT on one busy machine. With it, the planned
time of 12 steps was 0.88 to 1.21 times the CPU seconds. No other encoder was measured."""
LAUNCH_S = 1e-5
"""Time that the host takes to launch a kernel from Python (seconds). On a CPU, the time that an
operator takes besides its work."""
UNKNOWN_GPU = "a100-40gb"
"""GPU by whose rates chunks are chosen where the figures of the GPU are unknown."""
MIN_CHUNK = 16
"""Smallest chunk that is chosen where memory allows more. Gradients are summed over the chunks, and
in bf16 each addition rounds."""
MAX_CHUNK = 1 << 16
"""Largest chunk that is chosen."""
GPU_OVERHEAD_RATIO = 2.0
"""Least ratio of a chunk's work to its overhead on a GPU, which launches kernels while others run:
above 1 the host keeps ahead of it."""
CPU_OVERHEAD_RATIO = 16.0
"""The same on a CPU, where the overhead adds to the work: it is at most 6 % of it."""

CPU_RATES = Rates(
    flops_per_s=5e10,
    bytes_per_s=1e10,
    launch_s=LAUNCH_S,
    asynchronous=False,
    overhead_ratio=CPU_OVERHEAD_RATIO,
)
"""Nominal rates of a rank on a CPU. Measured ones would let chunks, and thereby the rounding of
sums, differ from run to run."""


def gpu_rates(gpu: Device, precision: Precision) -> Rates:
    """Return the rates of a GPU: its peaks times MATRIX_EFFICIENCY and TRAFFIC_EFFICIENCY.

    A precision that it lacks is emulated in fp32.
    """
    peak_flops_per_s = gpu.flops_per_s(precision) or gpu.flops_per_s("fp32")
    return Rates(
        flops_per_s=MATRIX_EFFICIENCY * peak_flops_per_s,
        bytes_per_s=TRAFFIC_EFFICIENCY * gpu.bandwidth_gb_per_s * 1e9,
        launch_s=LAUNCH_S,
        overhead_ratio=GPU_OVERHEAD_RATIO,
    )


def nominal_rates(device: torch.device, precision: Precision) -> Rates:
    """Return the rates of this machine's device; of UNKNOWN_GPU for a GPU without known figures."""
    if device.type != "cuda":
        return CPU_RATES
    gpu = device_of(torch.cuda.get_device_name(device)) or DEVICES[UNKNOWN_GPU]
    return gpu_rates(gpu, precision)


def chunk_size(cost: TowerCost, rates: Rates, room_bytes: float) -> int:
    """Return the number of items to encode at a time: a power of two.

    The chunk is the smallest of MIN_CHUNK to MAX_CHUNK items whose work on items takes
    `overhead_ratio` times its overhead. The overhead is what a chunk costs besides its items: the
    host's launches of its kernels, and what depends on no item, such as the gradient of a whole
    table of ids. Below that size the device waits for the host. Above it a chunk only takes more
    memory.

    If the memory of a chunk's forward and backward pass is more than `room_bytes`, it is the
    largest power of two that fits, or 1.
    """
    chunk = MIN_CHUNK
    overhead_s = cost.fixed_s(rates) + cost.kernels * rates.launch_s
    while chunk < MAX_CHUNK and chunk * cost.item_s(rates) < rates.overhead_ratio * overhead_s:
        chunk *= 2
    while chunk > 1 and cost.peak_bytes(chunk) > room_bytes:
        chunk //= 2
    return chunk


def held_chunks(cost: TowerCost, chunk: int, num_chunks: int, room_bytes: float) -> int:
    """Return how many of a step's chunks can hold their activations until the backward pass.

    With h of them held, the most memory is taken when the last chunk is in its backward pass: h
    times what a chunk holds, and what its backward pass needs besides. The other chunks are
    recomputed one at a time after the held ones are released, and take no more.
    """
    saved_bytes = cost.saved_bytes(chunk)
    backward_bytes = cost.peak_bytes(chunk) - saved_bytes
    if saved_bytes <= 0:
        return num_chunks
    return min(num_chunks, max(0, int((room_bytes - backward_bytes) / saved_bytes)))
