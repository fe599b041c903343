"""Stops a rank when torchrun or deepspeed, which started it, is gone.

Neither of them tells its ranks when it is killed. They would train on without a launcher.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import psutil

LAUNCHER_POLL_S = 1.0
_SHELLS = {"sh", "bash", "dash", "ash", "zsh", "busybox"}
"""Shells that may be a container's first process and start DeepSpeed's launch.py themselves."""


def stop_with_launcher() -> None:
    """Stop this rank as by SIGTERM once the torchrun or deepspeed that started it is gone.

    DeepSpeed's launcher is two processes. The one that a user starts and signals only waits for
    the other. Either may have ended before this call, which comes seconds after the rank's start.
    """
    is_deepspeed = "CROSS_SIZE" in os.environ  # set by DeepSpeed's launch.py
    if not is_deepspeed and "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    # A process that ends while it is looked up raises psutil.Error.
    with contextlib.suppress(psutil.Error):
        launcher = psutil.Process(os.getppid())
        starter = launcher.parent() if is_deepspeed else None
        # A process whose parent has ended becomes a child of the first process or of systemd.
        is_starter_gone = (
            starter is not None and _adopts_orphans(starter) and _program_of(starter) not in _SHELLS
        )
        if _adopts_orphans(launcher) or is_starter_gone:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        starter_pid = launcher.ppid() if is_deepspeed else None
        threading.Thread(
            target=_watch_launcher,
            args=(launcher.pid, starter_pid),
            daemon=True,
            name="launcher",
        ).start()


def _adopts_orphans(process: psutil.Process) -> bool:
    """Return whether orphans are given to the process, and it is not a launcher itself."""
    program = _program_of(process)
    is_adopter = process.pid == 1 or program == "systemd"
    # A launcher may be the first process of a container.
    return is_adopter and "python" not in program


def _program_of(process: psutil.Process) -> str:
    """Return the file name of the process's program."""
    words: list[str] = process.cmdline()
    # A login shell has a "-" before its name.
    return os.path.basename(words[0]).removeprefix("-") if words else ""


def _watch_launcher(launcher: int, starter: int | None) -> None:
    """Send SIGTERM to this process when the launcher, or the process that started it, is gone."""
    # The kernel's signal at a parent's end is no help here: it does not cover the starter.
    while os.getppid() == launcher:
        with contextlib.suppress(psutil.Error):
            if starter is not None and psutil.Process(launcher).ppid() != starter:
                break
        time.sleep(LAUNCHER_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
