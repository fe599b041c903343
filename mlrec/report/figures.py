"""What the figures of a report share: colors, error bars and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlrec.report.palette import PALETTE
from mlrec.report.runs import Run
from mlrec.report.svg import TEXT_PLACEHOLDER, Mark
from mlrec.report.tables import groups_by_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_COLORED_RUNS = len(PALETTE)
"""Runs that a page can tell apart. With more, the best runs have a color; the others are grey."""
MAX_LABEL_COLUMNS = 24
"""Width of a run's name within a figure; longer names are shortened."""
LOG_SCALE = " (log scale)"
ERROR_STYLE: dict[str, Any] = {"ecolor": TEXT_PLACEHOLDER, "elinewidth": 1.0, "capsize": 2.0}


def colors(runs: Sequence[Run]) -> dict[str, str]:
    """Return the color of each run of a page that has one, by name."""
    return {run.name: color for run, color in zip(best(runs), PALETTE, strict=False)}


def best(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of a page that have a color, in their order.

    They are all, or the best by HR@10. Data sets and splits take turns, so that each has some.
    """
    if len(runs) <= MAX_COLORED_RUNS:
        return list(runs)
    by_turn: list[tuple[int, float, str]] = []
    for group in groups_by_dataset(runs):
        hit_rates = sorted((-(run.metric("hr@10") or 0.0), run.name) for run in group)
        by_turn += [(turn, rate, name) for turn, (rate, name) in enumerate(hit_rates)]
    # one color is left for the others
    chosen = {name for _, _, name in sorted(by_turn)[: MAX_COLORED_RUNS - 1]}
    return [run for run in runs if run.name in chosen]


def metric_axis(metric: str) -> str:
    """Return the axis label of a ranking metric."""
    unit = "share of users" if metric.startswith("hr@") else "mean over users"
    return f"{metric.upper()} ({unit})"


def draw_errors(axes: Axes, marks: Sequence[Mark]) -> None:
    """Draw the error bars of marks that have errors."""
    for mark in marks:
        if mark.error:
            axes.errorbar(mark.x, mark.y, mark.error, fmt="none", **ERROR_STYLE)
