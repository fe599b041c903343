"""Figures of accuracy over what it cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlrec.report.cost import CostLine, cost_lines
from mlrec.report.figures import LOG_SCALE, MAX_LABEL_COLUMNS, draw_errors, metric_axis
from mlrec.report.page import Drawing
from mlrec.report.palette import MARKERS, PALETTE
from mlrec.report.runs import Run
from mlrec.report.svg import Mark, draw_svg
from mlrec.report.wording import count_in_words
from mlrec.runtime.printable import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NAMED_POINTS = 12
"""A figure with more points has no names next to them."""
LATER = " after the first"
COST_ERRORS = (
    "Error bars: ± the standard deviation over the seeds, or for a single run "
    "the standard error over the users."
)


def costs(runs: Sequence[Run]) -> list[Drawing]:
    """Draw HR@10 over what it cost, a point per run, or per runs that differ only in their seed.

    Returns:
        a figure of the seconds per epoch and one of the trained parameters; none for fewer than
        two points.
    """
    lines = [line for line in cost_lines(runs) if line.metric("hr@10") is not None]
    seconds = []
    trained = []
    for line in lines:
        # A run of one epoch has no later ones.
        epoch_s = line.epoch_s.later or line.epoch_s.first
        if epoch_s:
            seconds.append((line, epoch_s))
        if line.trained:
            trained.append((line, float(line.trained)))
    figures = [
        _over_cost(seconds, "HR@10 over seconds per epoch", "seconds per epoch" + LATER),
        _over_cost(trained, "HR@10 over trained parameters", "trained parameters"),
    ]
    # Without the times there is no cost to compare.
    return [figure for figure in figures if figure is not None] if len(seconds) > 1 else []


def _over_cost(points: Sequence[tuple[CostLine, float]], label: str, axis: str) -> Drawing | None:
    if len(points) < 2:
        return None
    tunings = dict.fromkeys(line.tuning for line, _ in points)
    color_of = dict(zip(tunings, itertools.cycle(PALETTE), strict=False))
    cheapest = min(cost for _, cost in points)
    dearest = max(cost for _, cost in points)
    middle = math.sqrt(cheapest * dearest)
    marks = []
    for line, cost in points:
        hit_rate = line.metric("hr@10")
        assert hit_rate is not None
        error = None if math.isnan(hit_rate.deviation) else hit_rate.deviation
        words = f"HR@10 {hit_rate.in_words()}, {line.tuning}"
        at = f"{count_in_words(cost)} {axis.removesuffix(LATER)}"
        marks.append(Mark(line.name, at, cost, hit_rate.mean, error, words))

    def draw(axes: Axes) -> None:
        draw_errors(axes, marks)
        for (line, cost), mark in zip(points, marks, strict=True):
            color = color_of[line.tuning]
            axes.plot(cost, mark.y, color=color, marker=MARKERS[color], markersize=6.5)
            if len(points) <= MAX_NAMED_POINTS:
                # towards the middle, so that no name leaves the figure
                side = -1 if cost > middle else 1
                name = axes.annotate(
                    shortened(line.short_name, MAX_LABEL_COLUMNS),
                    (cost, mark.y),
                    (6 * side, 4),
                    textcoords="offset points",
                    ha="right" if side < 0 else "left",
                    fontsize=7.5,
                )
                name.set_in_layout(False)
        _draw_log_axis(axes, dearest / cheapest)
        axes.set_xlabel(axis + LOG_SCALE)
        axes.set_ylabel(metric_axis("hr@10"))

    has_errors = any(mark.error for mark in marks)
    return draw_svg(draw, label, color_of, marks=marks, note=COST_ERRORS if has_errors else "")


def _draw_log_axis(axes: Axes, ratio: float) -> None:
    """Give the x axis a logarithmic scale with a few plain numbers.

    Args:
        ratio: of the largest and the smallest value.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    axes.set_xscale("log")
    # within a decade, powers of ten would be one tick or none
    if ratio < 10:
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    else:
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
    # the default's powers of ten are formulas, which the page does not draw
    axes.xaxis.set_major_formatter(lambda value, _: count_in_words(value))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.15)
