"""A time limit for decoding one item, in a process that is replaced if the limit ends it.

A decoder that hangs is in C code and can only be ended together with its process. The kernel's
alarm does that even when the interpreter cannot run.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

LIMIT_S = 40.0
"""Seconds for any item; a real MicroLens video takes 2 s."""
S_PER_MB = 4
"""Additional seconds per MB of an item: clips and some frame policies decode the whole video, which
takes 1 s per MB on an idle core."""
REASON = f"was not decoded within {LIMIT_S:.0f} s and {S_PER_MB} s per MB"
"""Reason recorded for an item. It leaves out the time taken, so that two runs record the same."""

_is_replaceable = False


def allow_time_limit() -> None:
    """Declare that this process is replaced when a time limit ends it."""
    global _is_replaceable
    # The default action ends the process, even while it is inside C code.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _is_replaceable = True


def seconds_for(num_bytes: int) -> float:
    """Return the time limit for decoding an item of this size."""
    return LIMIT_S + num_bytes / 1e6 * S_PER_MB


@contextlib.contextmanager
def time_limit(num_bytes: int) -> Iterator[None]:
    """End this process by SIGALRM if the block exceeds the limit of an item of this size.

    There is no limit in a process that is not replaced.
    """
    if not _is_replaceable:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds_for(num_bytes))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def paused_time_limit() -> Iterator[None]:
    """Stop the clock of `time_limit` during work that cannot hang."""
    remaining_s, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, remaining_s)
