"""Clocks, memory and the limits of a device."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
from pathlib import Path
from typing import NamedTuple

import torch

from mlrec.runtime.hardware import processor_name
from mlrec.runtime.printable import counted


class Seconds(NamedTuple):
    """Wall-clock and CPU time: a moment, or the duration between two moments."""

    elapsed_s: float
    """Wall-clock seconds."""
    cpu_s: float
    """CPU seconds, which other work on the cores does not change."""

    def since(self, start: Seconds) -> Seconds:
        """Return the duration from an earlier moment to this one."""
        return Seconds(self.elapsed_s - start.elapsed_s, self.cpu_s - start.cpu_s)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its children so far.

    Other work on the cores does not change them.
    """
    total_s = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total_s += usage.ru_utime + usage.ru_stime
    # RUSAGE_CHILDREN covers only children that have ended. Loader workers are still alive.
    for child in multiprocessing.active_children():
        total_s += _live_child_cpu_seconds(child.pid)
    return total_s


def _live_child_cpu_seconds(pid: int | None) -> float:
    """Return the CPU seconds of a running child; 0 without /proc."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    # The second field is the command's name in brackets, and may hold spaces.
    # Fields 14 and 15 of proc(5), utime and stime, are 11 and 12 after it.
    fields = stat.read_text().rsplit(") ", 1)[1].split()
    user_ticks = int(fields[11])
    system_ticks = int(fields[12])
    return (user_ticks + system_ticks) / os.sysconf("SC_CLK_TCK")


def device_name(device: torch.device, ranks: int = 1) -> str:
    """Return the device in words, with the number of ranks that use one of its kind."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{cpu_name()}, {counted(torch.get_num_threads(), 'thread')} a rank"
    return f"{name}; {counted(ranks, 'rank')}"


def cpu_name() -> str:
    """Return the machine's processor and number of cores in words."""
    return f"{processor_name()}, {os.cpu_count()} cores"


def reset_peak(device: torch.device) -> int:
    """Start to track peak memory, and return the bytes in use now.

    They are the bytes allocated on a CUDA device, or else the resident memory of this process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    # Linux sets the high-water mark VmHWM back to the resident memory of this moment.
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def peak(device: torch.device) -> int:
    """Return the peak bytes since `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _resident(field: str) -> int:
    """Return a memory field of this process in bytes; 0 if the kernel does not report it."""
    # /proc says kB, and means KiB.
    match = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(match[1]) if match else 0
