"""What the figures of a report share: colors, error bars and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlrec.report.palette import PALETTE
from mlrec.report.runs import Run
from mlrec.report.svg import TEXT_PLACEHOLDER, Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_COLORED_RUNS = len(PALETTE)
"""Runs that a figure can tell apart. With more, the best runs have a color; the others are grey."""
LOG_SCALE = " (log scale)"
ERROR_STYLE: dict[str, Any] = {"ecolor": TEXT_PLACEHOLDER, "elinewidth": 1.0, "capsize": 2.0}


def colors(runs: Sequence[Run]) -> dict[str, str]:
    """Return the color of each run that has one, by name."""
    return {run.name: color for run, color in zip(best(runs), PALETTE, strict=False)}


def best(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with a color, in their order: all, or the best by HR@10."""
    if len(runs) <= MAX_COLORED_RUNS:
        return list(runs)
    # one color is left for the others
    by_hit_rate = sorted(range(len(runs)), key=lambda i: -(runs[i].metric("hr@10") or 0.0))
    return [runs[i] for i in sorted(by_hit_rate[: MAX_COLORED_RUNS - 1])]


def metric_axis(metric: str) -> str:
    """Return the axis label of a ranking metric."""
    unit = "share of users" if metric.startswith("hr@") else "mean over users"
    return f"{metric.upper()} ({unit})"


def draw_errors(axes: Axes, marks: Sequence[Mark]) -> None:
    """Draw the error bars of marks that have errors."""
    for mark in marks:
        if mark.error:
            axes.errorbar(mark.x, mark.y, mark.error, fmt="none", **ERROR_STYLE)
