"""The cache of a node: damaged, full, or with clocks that jump; it only ever costs time."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy import Proxy
from runs import STEPS_PER_EPOCH, TOLERANCE, lines, losses, metric, settings
from trainer import QUICK, Trainer

now = time.time


def jumping() -> float:
    """A clock that is an hour off now and then, in either direction."""
    return now() + random.choice([-3600.0, 0.0, 0.0, 3600.0])


def shards_in(cache: Path) -> list[Path]:
    return sorted((cache / "items").glob("*.tar"))


def check_undisturbed(run: Path, curve: list[float]) -> None:
    assert losses(run) == pytest.approx(curve[:STEPS_PER_EPOCH], abs=TOLERANCE)
    assert not lines(run, "failures.jsonl")


def test_cache_damaged_shard_is_fetched_again(
    trainer: Trainer, s3_data: str, proxy: Proxy, curve: list[float], tmp_path: Path
) -> None:
    assert trainer.train(*settings(s3_data, tmp_path, "name=first")).code == 0
    whole = shards_in(tmp_path / "cache")
    assert len(whole) == 4
    cut, flipped, replaced = whole[:3]
    os.truncate(cut, 70_000)
    content = flipped.read_bytes()
    flipped.write_bytes(bytes(byte ^ 1 for byte in content))
    replaced.write_bytes(b"")
    proxy.clear()
    outcome = trainer.train(*settings(s3_data, tmp_path))
    assert outcome.code == 0, outcome.output
    check_undisturbed(tmp_path / "run", curve)
    assert proxy.requests("items/")
    for path in shards_in(tmp_path / "cache"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem, (
            "what lies there is whole again"
        )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one shard and no second one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=360k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_cache_full_disk_costs_speed_and_one_warning(
    trainer: Trainer,
    s3_data: str,
    proxy: Proxy,
    curve: list[float],
    small_disk: Path,
    tmp_path: Path,
) -> None:
    outcome = trainer.train(*settings(s3_data, tmp_path, f"data.cache_dir={small_disk}"))
    assert outcome.code == 0, outcome.output
    check_undisturbed(tmp_path / "run", curve)
    assert outcome.output.count("No space left on device") == 1
    assert metric(tmp_path / "run", "data/remote_bytes")[-1] > 0, "it went on by ranged reads"


def test_cache_jumping_clock_loses_nothing(
    trainer: Trainer, s3_data: str, proxy: Proxy, curve: list[float], tmp_path: Path
) -> None:
    patches = {**QUICK, "time.time": jumping}
    room = "data.cache_bytes=450000"  # two shards of four
    assert (
        trainer.train(*settings(s3_data, tmp_path, room, "name=first"), patches=patches).code == 0
    )
    for path, hours in zip(shards_in(tmp_path / "cache"), (-24, 24), strict=True):
        os.utime(path, (now() + hours * 3600,) * 2)
    outcome = trainer.train(*settings(s3_data, tmp_path, room), patches=patches)
    assert outcome.code == 0, outcome.output
    check_undisturbed(tmp_path / "run", curve)
    assert 0 < sum(path.stat().st_size for path in shards_in(tmp_path / "cache")) <= 450000
