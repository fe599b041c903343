"""The processor and the free memory of this machine."""

from __future__ import annotations

import platform
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Folder of the control groups, whose memory limits their processes must not exceed."""
OWN_CGROUPS = Path("/proc/self/cgroup")
"""Names of the control groups of this process."""
_NO_LIMIT = 1 << 60
"""Limit (bytes) above which there is none; version 1 writes a number near 2^63 for none."""


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
    """Return the free memory of the machine, or of the smallest limit that this process has.

    Limits are those of its control group and of the groups around it, such as a container's or a
    batch job's, and that of its address space (ulimit -v).
    """
    # "available" includes memory that the kernel can reclaim, unlike "free".
    free = float(psutil.virtual_memory().available)
    for folder in _memory_groups():
        free = min(free, _free_of_group(folder))
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        free = min(free, address_space - psutil.Process().memory_info().vms)
    return max(0.0, free)


def _memory_groups() -> Iterator[Path]:
    """Yield the folders of this process' group, and of those around it, that limit memory."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        # Version 2 has one hierarchy, version 1 one per controller. Within a container the group's
        # own folder may be mounted as the root, so that its name leads nowhere.
        root = CGROUP / controllers
        group = root / name.strip("/")
        while group != root:
            if group.is_dir():
                yield group
            group = group.parent
        yield root


def _free_of_group(folder: Path) -> float:
    """Return the memory (bytes) that a control group allows its processes to take besides."""
    for limit_name, used_name, evictable_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = (folder / limit_name).read_text().strip()
            if limit == "max" or int(limit) > _NO_LIMIT:
                continue
            used = int((folder / used_name).read_text())
            statistics = (folder / "memory.stat").read_text().split()
        except OSError:  # this version has no such files
            continue
        # The page cache counts as used, but the kernel evicts its inactive part on demand.
        evictable = dict(zip(statistics[::2], statistics[1::2], strict=True))[evictable_name]
        return float(int(limit) - used + int(evictable))
    return float("inf")
