"""Runs whose processes are killed, as by a scheduler or for lack of memory.

The run continues, or the same command resumes it, with the same losses.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from launching import LAUNCHERS, finish, run, start
from proxy import Fault, Proxy
from runs import STEPS_PER_EPOCH, TOLERANCE, lines, losses, settings

THREE_EPOCHS = 3 * STEPS_PER_EPOCH


def wait_until(
    happened: Callable[[], object], process: subprocess.Popen[str], timeout_s: float = 90
) -> None:
    """Wait until `happened()` is true of a running command."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"it did not happen: {process.communicate()[0]}")
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill the command's own process. The processes that it started have to notice."""
    process.kill()
    process.communicate(timeout=60)
    wait_for_nobody(process)


def wait_for_nobody(process: subprocess.Popen[str]) -> None:
    """Wait until no process that a command started is left."""
    deadline = time.monotonic() + 30
    while left := [
        other.cmdline() for other in psutil.process_iter() if session_of(other.pid) == process.pid
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def session_of(pid: int) -> int | None:
    try:
        dead = psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return None if dead else os.getsid(pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


def test_loader_killed_worker_is_replaced(
    s3_data: str, proxy: Proxy, curve: list[float], tmp_path: Path
) -> None:
    job = start(
        [
            *LAUNCHERS["plain"],
            *settings(s3_data, tmp_path, "train.duration=60 steps", "data.num_workers=2"),
        ]
    )
    wait_until(lambda: len(losses(tmp_path / "run")) >= 3, job)
    main = psutil.Process(job.pid)
    workers = [child for child in main.children() if child.cmdline() == main.cmdline()]
    assert len(workers) == 2
    workers[0].kill()
    finish(job)
    assert len(losses(tmp_path / "run")) == 60
    assert losses(tmp_path / "run")[:THREE_EPOCHS] == pytest.approx(curve, abs=TOLERANCE)
    assert not lines(tmp_path / "run", "failures.jsonl")
    wait_for_nobody(job)


def test_launcher_killed_rank_ends_it_and_the_command_resumes(
    s3_data: str, proxy: Proxy, curve: list[float], tmp_path: Path
) -> None:
    more = ["train.duration=3 epochs", "train.save_every=2 steps", "data.num_workers=1"]
    command = [*LAUNCHERS["deepspeed"], *settings(s3_data, tmp_path, *more)]
    job = start(command)
    wait_until((tmp_path / "run" / "checkpoints" / "step-000004").exists, job)
    rank_processes = [
        child
        for child in psutil.Process(job.pid).children(recursive=True)
        if "--local_rank=1" in child.cmdline()
    ]
    rank = next(
        child
        for child in rank_processes
        if not any(parent in rank_processes for parent in child.parents())
    )
    rank.kill()
    output, _ = job.communicate(timeout=60)
    assert job.returncode != 0, output
    wait_for_nobody(job)
    assert len(losses(tmp_path / "run")) < THREE_EPOCHS
    run(command)
    assert losses(tmp_path / "run") == pytest.approx(curve, abs=TOLERANCE)


def test_train_killed_while_saving_resumes_from_the_previous_checkpoint(
    s3_data: str, proxy: Proxy, curve: list[float], tmp_path: Path
) -> None:
    arguments = settings(s3_data, tmp_path, "train.save_every=3 steps")
    marker = tmp_path / "saving"
    job = start(
        [sys.executable, str(Path(__file__).with_name("pausing.py")), "6", str(marker), *arguments]
    )
    wait_until(marker.exists, job)
    kill(job)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"step-000003", "step-000006.partial"}
    assert f"steps 3 to {STEPS_PER_EPOCH}" in run([*LAUNCHERS["plain"], *arguments])
    assert losses(tmp_path / "run") == pytest.approx(curve[:STEPS_PER_EPOCH], abs=TOLERANCE)
    assert not list(checkpoints.glob("*.partial"))


def test_train_killed_while_downloading_leaves_no_lock_or_sparse_file(
    s3_data: str, proxy: Proxy, curve: list[float], tmp_path: Path
) -> None:
    proxy.rules.append(Fault("slow", "/items/", seconds=30, range="bytes=0-"))
    cache = tmp_path / "cache" / "items"
    # a budget of one shard: another one may take the place of the half file
    command = [
        *LAUNCHERS["plain"],
        *settings(s3_data, tmp_path, "data.num_workers=1", "data.cache_bytes=216000"),
    ]
    job = start(command)
    wait_until(lambda: list(cache.glob("*.sparse")), job)
    kill(job)
    half = list(cache.glob("*.sparse"))
    assert half
    proxy.clear()
    run(command)
    assert losses(tmp_path / "run") == pytest.approx(curve[:STEPS_PER_EPOCH], abs=TOLERANCE)
    assert not list(cache.glob("*.sparse"))
    assert len(list(cache.glob("*.tar"))) == 1, "the lock was free and the room was there"
