"""Lengths of time in a run: "100 steps", "2 epochs", "5%"."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(steps?|epochs?|%)")


def steps_of(duration: str, steps_per_epoch: int, total_steps: int) -> int:
    """A duration ("100 steps", "1 epoch", "5%") in steps.

    Raises:
        ValueError: it is none of the three.
    """
    match = _DURATION.fullmatch(duration.strip())
    if match is None:
        raise ValueError(f"{duration!r} is not a duration; write '100 steps', '2 epochs' or '5%'")
    unit = match[2].rstrip("s")
    scale = {"step": 1.0, "epoch": float(steps_per_epoch), "%": total_steps / 100}[unit]
    return round(float(match[1]) * scale)
