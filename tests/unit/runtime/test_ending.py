"""Signals take effect whatever a process is doing, and no child outlives its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

DEAF = """
import hashlib, sys, time
from mlrec.runtime import ending
from mlrec.runtime.entry_point import exit_with, run_main
def in_c_code(arguments):
    print("started", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
def swallow(arguments):
    print("started", flush=True)
    while True:
        try:
            time.sleep(100)
        except BaseException:
            pass
def wait(arguments):
    print("started", flush=True)
    time.sleep(100)
exit_with(run_main(globals()[sys.argv[1]], [], grace_s=float(sys.argv[2])))
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process, and wait until it has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    # The line is printed just before the work that does not react to signals.
    time.sleep(0.2)
    return process


def assert_ended(processes: list[psutil.Process], timeout_s: float) -> None:
    """Check that the processes end within the time."""
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    assert not alive


@pytest.mark.parametrize("main", ["in_c_code", "swallow"])
def test_run_main_with_a_deaf_command_ends_it_after_its_grace(main: str) -> None:
    process = start(DEAF, main, "1")
    signalled_at = time.monotonic()
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    assert 1 <= time.monotonic() - signalled_at < 5
    assert errors == (
        "error: the command did not end in time after SIGTERM and was killed with its processes\n"
    )


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_run_main_on_a_second_signal_ends_within_two_seconds(second: int) -> None:
    process = start(DEAF, "in_c_code", "60")
    process.terminate()
    process.terminate()  # a repeat within REPEAT_S is the same request
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    signalled_at = time.monotonic()
    process.send_signal(second)
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert time.monotonic() - signalled_at < 2


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_run_main_with_a_waiting_command_ends_at_once(number: int, code: int) -> None:
    process = start(DEAF, "wait", "60")
    process.send_signal(number)
    assert process.communicate(timeout=5) == ("", "")
    assert process.returncode == code


EXIT = """
import atexit, multiprocessing, signal, sys, time
from mlrec.runtime import ending
from mlrec.runtime.entry_point import exit_with, run_main
ending.EXIT_S = 1.0
def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(100)
def main(arguments):
    multiprocessing.get_context("fork").Process(target=deaf, daemon=True).start()
    atexit.register(time.sleep, 100)
    print("started", flush=True)
    time.sleep(1)
    raise RuntimeError("it failed")
exit_with(run_main(main, []))
"""


def test_exit_with_deaf_workers_and_exit_handlers_does_not_wait() -> None:
    process = start(EXIT)
    (worker,) = psutil.Process(process.pid).children()
    _, errors = process.communicate(timeout=6)
    assert process.returncode == 1
    assert errors.splitlines()[0] == "error: it failed"
    assert_ended([worker], timeout_s=2)


ORPHAN = """
import multiprocessing, os, signal, sys, time
from mlrec.data.workers import start_worker
from shards_tools.pack.pool import map_ordered
def worker():
    start_worker(0)
    time.sleep(100)
if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=worker, daemon=True).start()
    jobs = map_ordered(time.sleep, [0, 100], 1)
    next(jobs)
    print("started", flush=True)
    time.sleep(100)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text(ORPHAN)
    process = start(
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')",
        str(tmp_path / "orphan.py"),
    )
    children = psutil.Process(process.pid).children()
    assert len(children) >= 2
    process.kill()
    process.communicate(timeout=5)
    assert_ended(children, timeout_s=5)


RANK = """
import time
from mlrec.runtime.launcher_watch import stop_with_launcher
stop_with_launcher()
print('started', flush=True)
time.sleep(100)
"""
LAUNCHER = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
LATE_RANK = """
import time
from mlrec.runtime.launcher_watch import stop_with_launcher
print('started', flush=True)
time.sleep(1)
stop_with_launcher()
time.sleep(100)
"""
STARTER = (
    f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LAUNCHER!r}, sys.argv[1]])"
)


@pytest.mark.parametrize("script", [RANK, LATE_RANK], ids=["watching", "importing"])
@pytest.mark.parametrize(
    ("variable", "launcher"),
    [("TORCHELASTIC_RUN_ID", LAUNCHER), ("CROSS_SIZE", LAUNCHER), ("CROSS_SIZE", STARTER)],
)
def test_stop_with_launcher_ends_the_rank_when_the_launcher_is_killed(
    variable: str, launcher: str, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    root = start(launcher, script)
    rank = psutil.Process(root.pid).children(recursive=True)[-1]
    root.kill()
    assert_ended([rank], timeout_s=5)
    root.communicate()


def test_stop_with_launcher_leaves_the_rank_of_a_living_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CROSS_SIZE", "1")
    root = start(STARTER, RANK)
    *_, rank = psutil.Process(root.pid).children(recursive=True)
    # Longer than LAUNCHER_POLL_S: the rank looks for its launcher at least once.
    _, alive = psutil.wait_procs([rank], timeout=1.5)
    assert alive == [rank]
    root.kill()
    root.communicate()
