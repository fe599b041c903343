"""Clocks, memory and the limits of a device."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
from pathlib import Path

import torch

from mlrec.runtime.hardware import processor_name


def cpu_seconds() -> float:
    """Seconds of CPU of this process and its children so far: what other work on the cores does not change."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    alive = (_cpu_of(child.pid) for child in multiprocessing.active_children())
    return sum(part.ru_utime + part.ru_stime for part in used) + sum(alive)


def _cpu_of(process: int | None) -> float:
    """Of a child that has not ended; 0 where the kernel does not say."""
    stat = Path(f"/proc/{process}/stat")
    fields = stat.read_text().rsplit(") ", 1)[1].split() if stat.exists() else []
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def device_name(device: torch.device, ranks: int = 1) -> str:
    """The device in words, with how many ranks use one of its kind."""
    threads = torch.get_num_threads()
    on_cpu = f"{cpu_name()}, {threads} {'thread' if threads == 1 else 'threads'} a rank"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
    return f"{name}; {ranks} {'rank' if ranks == 1 else 'ranks'}"


def cpu_name() -> str:
    """The machine's processor and number of cores, in words."""
    return f"{processor_name()}, {os.cpu_count()} cores"


def reset_peak(device: torch.device) -> int:
    """Begins to watch the peak of memory; bytes in use now: of the device, or resident on the CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark begins anew
    return _resident("VmRSS")


def peak(device: torch.device) -> int:
    """Bytes at the peak since `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0
