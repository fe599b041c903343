"""The GPUs that a plan is for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch

from mlrec.config import Config
from mlrec.data.schema import lookup
from mlrec.models.building import training_precision
from mlrec.models.formulas import CPU_EFFICIENCY, LAUNCH_S, gpu_rates
from mlrec.models.pass_cost import Rates
from mlrec.models.precision import Support, gpu_precision_notices, with_precision
from mlrec.runtime.devices import DEVICES, Device, device_of
from mlrec.runtime.flops import sustained_rates
from mlrec.runtime.hardware import free_host_bytes
from mlrec.runtime.printable import counted, printable

GPUS_PER_NODE = 8
"""GPUs of a machine, unless the number of nodes is given."""
MAX_MEMORY_BYTES = 10**15
_SIZE = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?) ?(GB|GiB)", re.ASCII | re.IGNORECASE)
_UNITS = {"gb": 10**9, "gib": 1 << 30}


@dataclass(frozen=True)
class Machine:
    """Ranks, their devices, and what these reach."""

    ranks: int
    nodes: int
    memory_bytes: int
    """Memory of a rank's device."""
    free_bytes: float
    """Part of it that is free before the run."""
    device: str
    """The device in words."""
    on_gpu: bool
    is_named: bool
    """Whether the product is known, and not only the memory."""
    rates: Rates | None
    """Rates of a rank's device; None if they are unknown, and with them the time."""
    notices: tuple[str, ...] = ()
    """Facts about the precision on this device that a user might not expect."""
    interconnect_bytes_per_s: float = 0.0
    """Peak at which a rank receives data from others of its node; 0 if unknown."""
    usd_per_hour: float = 0.0
    """Price of a rank's device; 0 if unknown."""

    @property
    def ranks_per_node(self) -> int:
        """Most ranks of a node."""
        return -(-self.ranks // self.nodes)

    def gpus_in_words(self) -> str:
        """Return the number of GPUs with their name or memory."""
        if self.is_named:
            return f"{self.ranks:,} x {self.device}"
        return f"{counted(self.ranks, 'GPU')} of {_size_in_words(self.memory_bytes)}"


def gpu_machine(
    config: Config, gpus: int, nodes: int | None, memory: str | None, gpu: str | None
) -> tuple[Machine, Config]:
    """Return the machines of a plan, and the configuration with its precision resolved for them.

    Args:
        nodes: None for nodes of 8 GPUs.
        memory: of a GPU, such as 80GB; None for that of `gpu`.
        gpu: row of DEVICES; None for memory alone, without times.

    Raises:
        ValueError: the GPU is unknown, the memory is neither given nor known, a value is out of
            range, or train.precision is not one of the GPU's.
    """
    row = lookup(DEVICES, gpu, "gpu") if gpu is not None else None
    if memory is None and row is None:
        raise ValueError(
            "mlrec plan needs the memory of a GPU. Give --memory 80GB, or --gpu h100 for its "
            "memory and the time of a step; see: mlrec list gpus"
        )
    memory_bytes = row.memory_bytes if memory is None and row else parse_memory(memory or "")
    # Without a name it stands for GPUs of today.
    support = Support("the GPU", bf16=True, tf32=True)
    if row is not None:
        support = Support(row.name, row.supports_bf16, row.supports_tf32)
    config = with_precision(config, support)
    nodes = nodes or -(-gpus // GPUS_PER_NODE)
    if nodes > gpus:
        raise ValueError(f"--nodes is {nodes}, more than the {gpus} GPUs. Give at most {gpus}")
    machine = Machine(
        ranks=gpus,
        nodes=nodes,
        memory_bytes=memory_bytes,
        free_bytes=memory_bytes,
        device=row.name if row else f"GPUs of {_size_in_words(memory_bytes)}",
        on_gpu=True,
        is_named=row is not None,
        rates=_rates(row, config),
        notices=tuple(gpu_precision_notices(config, support)),
        interconnect_bytes_per_s=row.interconnect_gb_per_s * 1e9 if row else 0.0,
        usd_per_hour=row.usd_per_hour if row else 0.0,
    )
    return machine, config


def this_machine(config: Config, ranks: int) -> Machine:
    """Return this machine with its first GPU, or with its processor and host memory without one.

    Args:
        config: with its precision resolved for the device.
    """
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        row = device_of(name)
        memory_bytes = torch.cuda.get_device_properties(0).total_memory
        return Machine(
            ranks=ranks,
            nodes=1,
            memory_bytes=memory_bytes,
            free_bytes=memory_bytes,
            device=name,
            on_gpu=True,
            is_named=True,
            rates=_rates(row, config),
            interconnect_bytes_per_s=row.interconnect_gb_per_s * 1e9 if row else 0.0,
            usd_per_hour=row.usd_per_hour if row else 0.0,
        )
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks
    return Machine(
        ranks=ranks,
        nodes=1,
        memory_bytes=memory_bytes,
        free_bytes=min(memory_bytes, free_host_bytes() / ranks),
        device=f"this machine's memory, shared by {counted(ranks, 'rank')}",
        on_gpu=False,
        is_named=True,
        rates=measured_rates(),
    )


def _size_in_words(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.4g} GB"


def parse_memory(text: str) -> int:
    """Return a size such as 80GB or 79GiB in bytes.

    Raises:
        ValueError: it is not such a size.
    """
    match = _SIZE.fullmatch(text)
    size = float(match[1]) * _UNITS[match[2].lower()] if match else 0
    if not 0 < size <= MAX_MEMORY_BYTES:
        raise ValueError(
            f"--memory is {printable(repr(text), 40)}. Give the memory of one GPU with its unit, "
            "such as 80GB or 79GiB"
        )
    return int(size)


def _rates(row: Device | None, config: Config) -> Rates | None:
    return gpu_rates(row, training_precision(config)) if row else None


def measured_rates() -> Rates:
    """Return the rates of this machine's processor, measured now."""
    rates = sustained_rates()
    return Rates(
        flops_per_s=CPU_EFFICIENCY * rates.flops_per_s,
        bytes_per_s=CPU_EFFICIENCY * rates.bytes_per_s,
        launch_s=LAUNCH_S,
        asynchronous=False,
    )
