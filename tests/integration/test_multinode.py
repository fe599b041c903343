"""launch/multinode.sh on two machines: losses, failures of a rank and of a machine, and stops."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from namespaces import Machines, missing_requirement, rank_of
from runs import STEPS_PER_EPOCH, TOLERANCE, losses, settings

from mlrec.runs import checkpoint
from mlrec.runtime.ending import STOP_S

ROOT = Path(__file__).parents[2]
THREE_EPOCHS = 3 * STEPS_PER_EPOCH
SAVED = "checkpoints/step-000004"
END_S = 60
"""Seconds in which a failure on one machine ends the run on both."""


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """Start two machines."""
    requirement = missing_requirement()
    if requirement:
        pytest.skip(requirement)
    # Not below pytest's folder: users that sshd and ssh switch to must reach it.
    folder = Path(tempfile.mkdtemp(prefix="mlrec-", dir="/tmp"))
    try:
        with Machines(folder) as two_machines:
            yield two_machines
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def start(
    machines: Machines, dataset_dir: Path, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts the run `tmp_path`/run on both machines from the first one.

    All processes are ended afterwards.
    """
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("".join(f"{address} slots=1\n" for address in machines.addresses))
    started: list[subprocess.Popen[str]] = []

    def start_run(*options: str) -> subprocess.Popen[str]:
        run = settings(
            dataset_dir,
            tmp_path,
            "train.duration=3 epochs",
            "train.save_every=2 steps",
            "data.num_workers=1",
        )
        command = machines.on(
            0, "bash", str(ROOT / "launch" / "multinode.sh"), str(hostfile), *options, *run
        )
        with open(tmp_path / "output", "ab") as output:
            started.append(
                subprocess.Popen(
                    command, env=machines.environment, stdout=output, stderr=output, text=True
                )
            )
        return started[-1]

    yield start_run
    for process in started:
        process.kill()
        process.wait()
    machines.plug(inserted=True)
    for place in range(2):
        machines.kill(place)
        machines.serve(place)


def wait_until(
    condition: Callable[[], object],
    process: subprocess.Popen[str],
    tmp_path: Path,
    timeout_s: float = 120,
) -> None:
    """Wait until a running run meets a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, (
            tmp_path / "output"
        ).read_text()
        time.sleep(0.02)


def end_of(
    process: subprocess.Popen[str], tmp_path: Path, timeout_s: float = 120
) -> tuple[int, str]:
    """Wait for the end of a run; return its exit code and all output so far."""
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it is still running: {(tmp_path / 'output').read_text()}")
    return code, (tmp_path / "output").read_text()


def run_commands(machines: Machines) -> list[list[str]]:
    """Return the command lines of all nodes and ranks on the machines."""
    commands = []
    for place in range(2):
        for command in machines.processes(place).values():
            if "mlrec.train" in command or "mlrec.runtime.node" in command:
                commands.append(command)
    return commands


def test_multinode_with_a_killed_rank_ends_both_machines_and_resumes(
    machines: Machines,
    start: Callable[..., subprocess.Popen[str]],
    curve: list[float],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    job = start()
    wait_until((run / SAVED).exists, job, tmp_path)
    rank_of(machines.processes(1)).kill()
    code, output = end_of(job, tmp_path, END_S)
    assert code == 1, output
    assert f"a rank on {machines.addresses[1]} was ended by SIGKILL" in output
    assert "error on rank 0: another rank" in output
    assert "Run the same command again to resume from the last checkpoint" in output
    assert not run_commands(machines)
    assert 4 <= len(losses(run)) < THREE_EPOCHS
    code, output = end_of(start(), tmp_path)
    assert code == 0, output
    assert "2 ranks" in output
    assert losses(run) == pytest.approx(curve, abs=TOLERANCE)


def test_multinode_with_a_killed_machine_ends_the_other_and_resumes_elastically(
    machines: Machines,
    start: Callable[..., subprocess.Popen[str]],
    curve: list[float],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    job = start()
    wait_until((run / SAVED).exists, job, tmp_path)
    machines.kill(1)
    code, output = end_of(job, tmp_path, END_S)
    assert code == 1, output
    assert f"the connection to {machines.addresses[1]} is lost" in output
    assert not run_commands(machines)
    code, output = end_of(start(), tmp_path)
    assert code == 2, output
    assert f"error: {machines.addresses[1]} of the hostfile cannot be reached by ssh" in output
    code, output = end_of(start("--elastic"), tmp_path)
    assert code == 0, output
    assert (
        f"{machines.addresses[1]} cannot be reached: starting on {machines.addresses[0]}" in output
    )
    assert "1 rank," in output
    assert losses(run) == pytest.approx(curve, abs=TOLERANCE)


def test_multinode_elastic_with_a_pulled_cable_restarts_without_the_machine(
    machines: Machines,
    start: Callable[..., subprocess.Popen[str]],
    curve: list[float],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    job = start("--elastic")
    wait_until((run / SAVED).exists, job, tmp_path)
    # No connection is closed: each side only notices that nothing arrives.
    machines.plug(inserted=False)
    code, output = end_of(job, tmp_path, 150)
    assert code == 0, output
    assert f"the connection to {machines.addresses[1]} is lost" in output
    assert "2 ranks" in output
    assert "1 rank," in output
    assert losses(run) == pytest.approx(curve, abs=TOLERANCE)


def test_multinode_on_a_stop_ends_both_machines_after_the_same_step_and_resumes(
    machines: Machines,
    start: Callable[..., subprocess.Popen[str]],
    curve: list[float],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    job = start()
    wait_until(lambda: len(losses(run)) >= 3, job, tmp_path)
    job.terminate()
    code, output = end_of(job, tmp_path, STOP_S)
    assert code == 128 + signal.SIGTERM, output
    last_step = len(losses(run))
    assert 3 <= last_step < THREE_EPOCHS
    assert (
        f"stopped after step {last_step} of {THREE_EPOCHS}, "
        "which is saved: run the same command again to resume" in output
    )
    assert checkpoint.newest(run) == run / "checkpoints" / f"step-{last_step:06d}"
    assert not run_commands(machines)
    code, output = end_of(start(), tmp_path)
    assert code == 0, output
    assert f"steps {last_step} to {THREE_EPOCHS}" in output
    assert losses(run) == pytest.approx(curve, abs=TOLERANCE)


def test_multinode_without_its_launcher_stops_the_ranks_with_a_checkpoint(
    machines: Machines, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = start()
    wait_until(lambda: len(losses(run)) >= 3, job, tmp_path)
    for process, command in machines.processes(0).items():
        if command[:1] == [shutil.which("ssh")] or process.pid == job.pid:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    deadline = time.monotonic() + STOP_S
    while run_commands(machines):
        assert time.monotonic() < deadline, run_commands(machines)
        time.sleep(0.2)
    last_step = len(losses(run))
    assert 3 <= last_step < THREE_EPOCHS
    assert checkpoint.newest(run) == run / "checkpoints" / f"step-{last_step:06d}"
