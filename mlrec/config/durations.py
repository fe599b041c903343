"""Lengths of time in a run: "100 steps", "2 epochs", "5%"."""

from __future__ import annotations

import re

from mlrec.runtime.printable import printable

_DURATION = re.compile(
    r"(0|[1-9][0-9]{0,17}|(?:0|[1-9][0-9]{0,17})?\.[0-9]{1,6}) ?(steps?|epochs?|%)"
)
MAX_AMOUNTS = {"step": 1e12, "epoch": 1e6, "%": 100.0}
"""By unit. More epochs than these would overflow the number of steps."""

_WRITE = "write '100 steps', '2 epochs' or '5%'"


def steps_of(duration: str, steps_per_epoch: int, total_steps: int) -> int:
    """Return a duration ("100 steps", "1 epoch", "5%") in steps.

    Raises:
        ValueError: it is none of the three.
    """
    amount, unit = _parsed(duration, _WRITE)
    scale = {"step": 1.0, "epoch": float(steps_per_epoch), "%": total_steps / 100}[unit]
    return round(amount * scale)


def check_duration(duration: str, key: str, remedy: str = "") -> None:
    """
    Raises:
        ValueError: the text is no duration, or an absurd one; the message names the key, the value and the remedy.
    """
    try:
        _parsed(duration, remedy or _WRITE)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _parsed(duration: str, remedy: str) -> tuple[float, str]:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"{printable(repr(duration), 80)} is not a duration; {remedy}")
    amount, unit = float(match[1]), match[2].rstrip("s")
    if amount > MAX_AMOUNTS[unit]:
        raise ValueError(
            f"{duration!r} is too long; it must be at most {MAX_AMOUNTS[unit]:.0f}{_named(unit)}"
        )
    return amount, unit


def _named(unit: str) -> str:
    return unit if unit == "%" else f" {unit}s"
