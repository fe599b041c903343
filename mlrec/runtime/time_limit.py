"""A time limit for decoding one item, in processes that another one replaces when the limit ends them.

A decoder that hangs is in C code and can only be ended together with its process. The kernel's alarm does that even when the
interpreter cannot run.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

LIMIT_S = 40.0
"""Seconds for any item; a real MicroLens video takes 2."""
BYTES_PER_S = 1e6
"""An item gets another second for each of these: whole films may be packed."""
REASON = f"was not decoded within {LIMIT_S:.0f} s and 1 s per MB"
"""What is recorded of an item; without the time that it took, so that two runs record the same."""

_is_replaceable = False


def allow_time_limit() -> None:
    """Declare that this process may be ended by a time limit, as another process replaces it."""
    global _is_replaceable
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _is_replaceable = True


def seconds_for(num_bytes: int) -> float:
    """Return how long the decoding of an item of this size may take."""
    return LIMIT_S + num_bytes / BYTES_PER_S


@contextlib.contextmanager
def time_limit(num_bytes: int) -> Iterator[None]:
    """End this process by SIGALRM when the block takes longer than an item of this size may.

    In a process that nobody replaces there is no limit.
    """
    if not _is_replaceable:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds_for(num_bytes))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
