"""The processor and the free memory of this machine."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Folder of the control group, whose memory limit a container must not exceed."""


def processor_name() -> str:
    """Return the processor's model, or its architecture where Linux does not know the model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.machine()
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def free_host_bytes() -> float:
    """Return the free memory of the machine, or of the container if that is less."""
    # "available" includes memory that the kernel can reclaim, unlike "free".
    free = float(psutil.virtual_memory().available)
    limit_file = CGROUP / "memory.max"
    limit = limit_file.read_text().strip() if limit_file.exists() else "max"
    if limit == "max":
        return free
    used = int((CGROUP / "memory.current").read_text())
    # The page cache counts as used, but the kernel evicts its inactive part on demand.
    evictable = _cgroup_statistics()["inactive_file"]
    return min(free, float(limit) - used + evictable)


def _cgroup_statistics() -> dict[str, int]:
    statistics = {}
    for line in (CGROUP / "memory.stat").read_text().splitlines():
        name, value = line.split()
        statistics[name] = int(value)
    return statistics
