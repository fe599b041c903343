"""Ends a process in time after a signal, whatever its main thread is doing, and its children.

Python runs signal handlers in the main thread only, between two bytecodes. A main thread inside
C code (a long step, a decoder, a download) therefore does not react to signals. `obey_signals`
makes the interpreter's C handler wake a thread. That thread ends the process if the main thread
has not done so in time.
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
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn

import psutil

STOP_S = 25.0
"""Seconds a training has after a stop signal to finish its step and save a checkpoint.

The limits of the processes around it are in `mlrec.runtime.phases`."""
END_S = STOP_S + 4.0
"""Seconds from a stop signal to the end of a command that waits for trainings."""
CLEANUP_S = 10.0
"""Seconds every other command has after a stop signal."""
SECOND_S = 1.0
"""Seconds a command has after a second stop signal."""
REPEAT_S = 0.5
"""Seconds after the first signal in which another one is the same request.

A terminal and a launcher both send a signal."""
EXIT_S = 3.0
"""Seconds that exit handlers have. W&B's may wait for the network."""

STDERR_FD = 2

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_PR_SET_PDEATHSIG = 1
"""Linux: the option that sets the signal sent to a process when its parent ends."""


class Stopped(BaseException):
    """A stop signal; like KeyboardInterrupt it passes every `except Exception`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Watch:
    """A thread that ends the process if a stop signal does not do so in time."""

    def __init__(self, grace_s: float) -> None:
        """Start the thread.

        Args:
            grace_s: seconds from the first stop signal to the end of the process.
        """
        self.grace_s = grace_s
        self._first_signal = 0
        """Number of the first stop signal; 0 for none."""
        self._first_at = 0.0
        self._deadline = float("inf")
        # The interpreter's C handler writes the number of each signal into the pipe.
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self.write_end, False)
        threading.Thread(target=self._run, daemon=True, name="signals").start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        while True:
            if not poll.poll(self._remaining_ms()):
                self._end()
            numbers = os.read(self._read_end, 64)
            if not numbers:  # the write end was closed: the command has ended
                os.close(self._read_end)
                return
            for number in numbers:
                if number in STOP_SIGNALS:
                    self._note(number)

    def _remaining_ms(self) -> float | None:
        if self._deadline == float("inf"):
            return None
        return max(0.0, self._deadline - time.monotonic()) * 1000

    def _note(self, number: int) -> None:
        now = time.monotonic()
        if not self._first_signal:
            self._first_signal = number
            self._first_at = now
            self._deadline = now + self.grace_s
        elif now - self._first_at > REPEAT_S:
            self._deadline = min(self._deadline, now + SECOND_S)

    def _end(self) -> NoReturn:
        name = signal.Signals(self._first_signal).name
        end_now(
            128 + self._first_signal,
            f"the command did not end in time after {name} and was killed with its processes",
        )


_watch: _Watch | None = None


@contextlib.contextmanager
def obey_signals(grace_s: float) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C and Stopped on SIGTERM and SIGHUP, once within the block.

    If that does not end the process in time, a thread does. Ignored signals (nohup) stay ignored.
    Outside the main thread this does nothing: Python handles no signals there.

    Args:
        grace_s: seconds from the first signal to the end of the process.
    """
    # `grace` changes the time limit of the watch that is active here.
    global _watch
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Before the first fork, and once per process.
    _forget_in_children()
    watch = _Watch(grace_s)
    _watch = watch
    wakeup_before = signal.set_wakeup_fd(watch.write_end, warn_on_full_buffer=False)
    raised = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        # A second exception would interrupt the cleanup. The watch acts on a second signal.
        if not raised:
            raised = True
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    previous_handlers = handle_stop_signals(stop)
    try:
        yield
    finally:
        restore_handlers(previous_handlers)
        signal.set_wakeup_fd(wakeup_before)
        os.close(watch.write_end)
        _watch = None


def handle_stop_signals(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install a handler of the stop signals, except of those that nohup ignores.

    Outside the main thread this does nothing: Python handles no signals there.

    Returns:
        The previous handlers, for `restore_handlers`.
    """
    previous_handlers: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
        return previous_handlers
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous_handlers[int(number)] = signal.signal(number, handler)
    return previous_handlers


def restore_handlers(previous_handlers: Mapping[int, Any]) -> None:
    """Undo `handle_stop_signals`."""
    for number, handler in previous_handlers.items():
        signal.signal(number, handler)


@functools.cache
def _forget_in_children() -> None:
    """Detach forked processes from the watch."""
    # A child inherits the pipe: a signal to it would count as a signal to its parent.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


@contextlib.contextmanager
def grace(seconds: float) -> Iterator[None]:
    """Give the process `seconds` to end after a stop signal that arrives within the block."""
    watch = _watch
    if watch is None:
        yield
        return
    previous_s = watch.grace_s
    watch.grace_s = seconds
    try:
        yield
    finally:
        watch.grace_s = previous_s


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Make the kernel send this process a signal when its parent ends, however that dies.

    Args:
        parent: process id of the parent.
        number: signal to send.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    # The kernel sends no signal for a parent that ended before the call.
    if os.getppid() != parent:
        os._exit(1)


def kill_workers() -> None:
    """Kill the daemonic processes that multiprocessing started here."""
    # multiprocessing would terminate and join them at exit, but loader workers ignore SIGTERM.
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def kill_descendants() -> None:
    """Kill all processes that this one and its children started."""
    # Grandchildren as well: loader workers of ranks, and decoders of packing processes.
    # Without a free file descriptor the processes cannot be looked up.
    with contextlib.suppress(psutil.Error, OSError):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


def end_now(code: int, sentence: str) -> NoReturn:
    """Print the sentence, kill all descendants and end this process; callable from any thread."""
    with contextlib.suppress(OSError):
        _, writable, _ = select.select([], [STDERR_FD], [], 0)
        if writable:  # writing to a full pipe that nobody reads would block
            os.write(STDERR_FD, f"error: {sentence}\n".encode())
    kill_descendants()
    # sys.exit would only end this thread, and run handlers that may be stuck.
    os._exit(code)


def run_exit_handlers(then: int) -> None:
    """Run the interpreter's exit handlers, for at most EXIT_S.

    Args:
        then: exit code with which the process is ended when they take longer.
    """
    import atexit

    sentence = f"exit handlers took longer than {EXIT_S:.0f} s and were interrupted"
    timer = threading.Timer(EXIT_S, end_now, (then, sentence))
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # the system allows no further thread
        timer.start()
    atexit._run_exitfuncs()
    timer.cancel()
