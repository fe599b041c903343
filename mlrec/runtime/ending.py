"""How a process ends, whatever its main thread is doing: signals take effect in time, and no child is left.

Python runs signal handlers in the main thread only, between two bytecodes. A main thread inside C code (a long step, a decoder, a
download) therefore hears no signal. `obey_signals` has the interpreter's C handler wake a thread, which ends the process when the
main thread has not done so in time.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import psutil

STOP_S = 25.0
"""Seconds a training has after a stop signal to finish its step and save a checkpoint."""
END_S = STOP_S + 4.0
"""Seconds from a stop signal to the end of a command that waits for trainings."""
CLEANUP_S = 10.0
"""Seconds every other command has after a stop signal."""
SECOND_S = 1.0
"""Seconds a command has after a second stop signal."""
REPEAT_S = 0.5
"""A signal this soon after the first is the same request: terminals and launchers both send one."""
EXIT_S = 3.0
"""Seconds that exit handlers have; W&B's may wait for the network."""

LAUNCHER_POLL_S = 1.0

_SHELLS = {"sh", "bash", "dash", "ash", "zsh", "busybox"}
"""A container's first process may be one of these, which starts DeepSpeed's launch.py itself."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_PR_SET_PDEATHSIG = 1
"""Linux: the signal that a process gets when its parent ends."""


class Stopped(BaseException):
    """A signal told the command to stop; like KeyboardInterrupt it passes every `except Exception`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Watch:
    """A thread that ends the process when a stop signal has not done so in time."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.told = 0
        """The first stop signal; 0 for none."""
        self._deadline = float("inf")
        self._wake, self.write_end = os.pipe()
        os.set_blocking(self.write_end, False)
        threading.Thread(target=self._run, daemon=True, name="signals").start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        first = 0.0
        while True:
            left = self._deadline - time.monotonic()
            if not poll.poll(None if left == float("inf") else max(0.0, left) * 1000):
                self._end()
            numbers = os.read(self._wake, 64)
            if not numbers:  # the write end was closed: the command has ended
                os.close(self._wake)
                return
            for number in filter(STOP_SIGNALS.__contains__, numbers):
                now = time.monotonic()
                if not self.told:
                    self.told, first, self._deadline = number, now, now + self.grace_s
                elif now - first > REPEAT_S:
                    self._deadline = min(self._deadline, now + SECOND_S)

    def _end(self) -> NoReturn:
        name = signal.Signals(self.told).name
        end_now(
            128 + self.told,
            f"the command did not end by itself after {name} and is killed with its processes",
        )


_watch: _Watch | None = None


@contextlib.contextmanager
def obey_signals(grace_s: float) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C and Stopped on SIGTERM and SIGHUP, once, and end the process where that does not.

    Ignored signals (nohup) stay ignored. Outside the main thread this does nothing: Python handles no signals there.

    Args:
        grace_s: seconds from the first signal to the end of the process.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _forget_in_children()
    watch = _watch = _Watch(grace_s)
    wakeup_before = signal.set_wakeup_fd(watch.write_end, warn_on_full_buffer=False)
    raised = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if not raised:  # a second one would interrupt the cleanup; the watch acts on it
            raised = True
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    heard = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        os.close(watch.write_end)
        _watch = None


@functools.cache
def _forget_in_children() -> None:
    """Detach forked processes from the watch: a signal to a child must not count as one to its parent."""
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


@contextlib.contextmanager
def grace(seconds: float) -> Iterator[None]:
    """Give the process `seconds` to end after a stop signal that arrives within the block."""
    if (watch := _watch) is None:
        yield
        return
    before, watch.grace_s = watch.grace_s, seconds
    try:
        yield
    finally:
        watch.grace_s = before


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent `parent` (a process id) ends, however that dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def stop_with_launcher() -> None:
    """Stop this rank, as by SIGTERM, when torchrun or deepspeed has started it and is gone, however that ended.

    DeepSpeed's launcher is two processes, of which the one that a user started and signals only waits. Either may have ended
    before this call, which comes seconds after the rank's start.
    """
    is_deepspeed = "CROSS_SIZE" in os.environ  # launch.py sets it
    if not is_deepspeed and "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    with contextlib.suppress(psutil.Error):
        launcher = psutil.Process(os.getppid())
        starter = launcher.parent() if is_deepspeed else None
        if _adopts(launcher) or (
            starter is not None and _adopts(starter) and _program(starter) not in _SHELLS
        ):
            os.kill(os.getpid(), signal.SIGTERM)
            return
        watched = (launcher.pid, launcher.ppid() if is_deepspeed else None)
        threading.Thread(target=_watch_launcher, args=watched, daemon=True, name="launcher").start()


def _adopts(process: psutil.Process) -> bool:
    """Return whether a process is one that orphans are given to, and not a launcher, which a container may run as its first."""
    return (process.pid == 1 or _program(process) == "systemd") and "python" not in _program(
        process
    )


def _program(process: psutil.Process) -> str:
    words: list[str] = process.cmdline()
    return os.path.basename(words[0]).removeprefix("-") if words else ""


def _watch_launcher(launcher: int, starter: int | None) -> None:
    while os.getppid() == launcher:
        with contextlib.suppress(psutil.Error):
            if starter is not None and psutil.Process(launcher).ppid() != starter:
                break
        time.sleep(LAUNCHER_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)


def kill_workers() -> None:
    """Kill the daemonic processes that multiprocessing started here.

    It would wait for them when the interpreter exits, and loader workers ignore SIGTERM.
    """
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def kill_descendants() -> None:
    """Kill all processes that this one and its children started."""
    with contextlib.suppress(
        psutil.Error, OSError
    ):  # no file descriptor may be left to look them up
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


def end_now(code: int, sentence: str) -> NoReturn:
    """Print the sentence, kill all descendants and end this process; callable from every thread."""
    with contextlib.suppress(OSError):
        if select.select([], [2], [], 0)[1]:  # a pipe that nobody empties would block
            os.write(2, f"error: {sentence}\n".encode())
    kill_descendants()
    os._exit(code)


def run_exit_handlers(then: int) -> None:
    """Run the interpreter's exit handlers; end the process with code `then` when they take longer than EXIT_S."""
    import atexit

    timer = threading.Timer(
        EXIT_S, end_now, (then, f"exit handlers took longer than {EXIT_S:.0f} s and were cut short")
    )
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # no thread can be started
        timer.start()
    atexit._run_exitfuncs()
    timer.cancel()
