"""Free memory: of the machine, of control groups of both versions, and of the address space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mlrec.runtime import hardware
from mlrec.runtime.hardware import free_host_bytes


def write_group(folder: Path, limit: str, used: int, version: int) -> None:
    """Write a control group with 1 MB of inactive page cache."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"cache 2000000\n{names[2]} 1000000\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process be in the control groups of version 1 and 2 with the name /job/step."""
    monkeypatch.setattr(hardware, "CGROUP", tmp_path / "cgroup")
    own_groups = tmp_path / "own"
    own_groups.write_text("5:cpu:/other\n4:memory:/job/step\n0::/job/step\n")
    monkeypatch.setattr(hardware, "OWN_CGROUPS", own_groups)
    return tmp_path / "cgroup"


def test_free_host_bytes_without_limits_are_those_of_the_machine(root: Path) -> None:
    assert free_host_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    write_group(root, "max", 3_000_000, version=2)
    write_group(root / "memory", str((1 << 63) - 4096), 3_000_000, version=1)
    assert free_host_bytes() > 1e8


@pytest.mark.parametrize("place", [".", "job", "job/step"])
def test_free_host_bytes_in_a_group_are_those_of_its_limit(place: str, root: Path) -> None:
    write_group(root, "max", 4_000_000, version=2)
    write_group(root / "job" / "step", "max", 3_000_000, version=2)
    write_group(root / place, "5000000", 3_000_000, version=2)
    assert free_host_bytes() == 3_000_000


@pytest.mark.parametrize("place", [".", "job", "job/step"])
def test_free_host_bytes_in_a_group_of_version_1_are_those_of_its_limit(
    place: str, root: Path
) -> None:
    write_group(root / "memory" / place, "7000000", 4_000_000, version=1)
    assert free_host_bytes() == 4_000_000


def test_free_host_bytes_of_a_full_group_are_none(root: Path) -> None:
    write_group(root, "5000000", 8_000_000, version=2)
    assert free_host_bytes() == 0


def test_free_host_bytes_of_a_limited_address_space_are_below_it() -> None:
    program = (
        "import resource; from mlrec.runtime.hardware import free_host_bytes;"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)); print(free_host_bytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 0 < float(done.stdout) < 2 << 30
