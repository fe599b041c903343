"""Durations within a run: "100 steps", "2 epochs", "5%"."""

from __future__ import annotations

import re
from typing import NamedTuple

from mlrec.runtime.printable import printable

# whole numbers of up to 18 digits fit int64; \d would also take digits of other scripts
_DURATION = re.compile(
    r"(0|[1-9][0-9]{0,17}|(?:0|[1-9][0-9]{0,17})?\.[0-9]{1,6}) ?(steps?|epochs?|%)"
)
# more epochs would overflow the number of steps, and more than 100 % lie beyond the run
MAX_AMOUNTS = {"step": 1e12, "epoch": 1e6, "%": 100.0}
_HOW_TO_WRITE = "write '100 steps', '2 epochs' or '5%'"


class _Duration(NamedTuple):
    amount: float
    unit: str
    """Key of MAX_AMOUNTS."""


def steps_of(duration: str, steps_per_epoch: int, total_steps: int) -> int:
    """Return a duration ("100 steps", "1 epoch", "5%") in steps.

    Raises:
        ValueError: it is none of the three.
    """
    amount, unit = _parsed(duration, _HOW_TO_WRITE)
    steps_per_unit = {
        "step": 1.0,
        "epoch": float(steps_per_epoch),
        "%": total_steps / 100,
    }
    return round(amount * steps_per_unit[unit])


def check_duration(duration: str, key: str, remedy: str = _HOW_TO_WRITE) -> None:
    """Check that a text is a duration of a sensible length.

    Raises:
        ValueError: it is not; the message names the key, the value and the remedy.
    """
    try:
        _parsed(duration, remedy)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _parsed(duration: str, remedy: str) -> _Duration:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"{printable(repr(duration), 80)} is not a duration; {remedy}")
    amount = float(match[1])
    unit = match[2].rstrip("s")
    limit = MAX_AMOUNTS[unit]
    if amount > limit:
        limit_in_words = f"{limit:.0f}%" if unit == "%" else f"{limit:.0f} {unit}s"
        raise ValueError(f"{duration!r} is too long; it must be at most {limit_in_words}")
    return _Duration(amount, unit)
