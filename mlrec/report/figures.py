"""The figures of a report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from mlrec.report.cost import CostLine, cost_lines
from mlrec.report.page import Drawing
from mlrec.report.palette import GREY, MARKERS, PALETTE
from mlrec.report.paper import EncoderPoint
from mlrec.report.published import TUNINGS
from mlrec.report.runs import Run
from mlrec.report.svg import SIZE_INCHES, TEXT_PLACEHOLDER, Box, Mark, draw_svg
from mlrec.report.tables import popularity_groups
from mlrec.report.wording import count_in_words
from mlrec.runtime.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_COLORED_RUNS = len(PALETTE)
"""Runs that a figure can tell apart. With more, the best runs have a color; the others are grey."""
MAX_NAMED_POINTS = 12
"""A figure with more points has no names next to them."""
MAX_NAME_CHARACTERS = 24
WIDE_INCHES = (6.4, 4.0)
LOG_SCALE = " (log scale)"
LATER = " after the first"
COST_ERRORS = (
    "Error bars: ± the standard deviation over the seeds, or for a single run "
    "the standard error over the users."
)


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


def bars(runs: Sequence[Run], metric: str, label: str) -> Drawing | None:
    """Draw a metric of the best runs by popularity group of the target, cold items first.

    Returns:
        None if no run has results.
    """
    groups = popularity_groups(runs)
    if not groups:
        return None
    series: dict[str, list[Bar]] = {}
    for run in best(runs):
        if run.results:
            series[run.name] = [
                Bar(run.metric(metric, group) or 0.0, run.error(metric, group)) for group in groups
            ]
    axes = AxisLabels("training interactions of the target", metric_axis(metric))
    return _grouped(series, colors(runs), groups, label, axes)


def recommended_bars(runs: Sequence[Run], label: str) -> Drawing | None:
    """Draw how the best runs' recommendations are spread over popularity groups.

    The targets' shares are drawn for comparison.

    Returns:
        None if no run was evaluated.
    """
    series: dict[str, list[Bar]] = {}
    targets: Mapping[str, int] = {}
    for run in best(runs):
        if run.recommended is not None:
            popularity = run.recommended.popularity
            series[run.name] = _shares(popularity["recommended"])
            targets = targets or popularity["targets"]
    if not series:
        return None
    series["what the users watched"] = _shares(targets)
    axes = AxisLabels("training interactions of the item", "share of recommendations")
    return _grouped(series, colors(runs), list(targets), label, axes, is_share=True)


def _shares(counts: Mapping[str, int]) -> list[Bar]:
    total = max(1, sum(counts.values()))
    return [Bar(count / total) for count in counts.values()]


class Bar(NamedTuple):
    """Height of a bar."""

    height: float
    error: float | None = None
    """Standard error of the height; None without an error bar."""


class AxisLabels(NamedTuple):
    """What the axes show, with units."""

    x: str
    y: str


def metric_axis(metric: str) -> str:
    """Return the axis label of a ranking metric."""
    unit = "share of users" if metric.startswith("hr@") else "mean over users"
    return f"{metric.upper()} ({unit})"


def _grouped(
    series: Mapping[str, Sequence[Bar]],
    color_of: Mapping[str, str],
    groups: Sequence[str],
    label: str,
    labels: AxisLabels,
    is_share: bool = False,
) -> Drawing:
    """Draw one bar per series in each group."""
    legend = {name: color_of.get(name, GREY) for name in series}
    width = 0.8 / len(series)
    middle = (len(series) - 1) / 2
    marks = []
    for position, (name, bars_of_series) in enumerate(series.items()):
        for place, (group, bar) in enumerate(zip(groups, bars_of_series, strict=True)):
            center = place + (position - middle) * width
            box = Box(center - width * 0.46, 0, center + width * 0.46, bar.height)
            words = f"{100 * bar.height:.1f} %" if is_share else ""
            marks.append(Mark(name, group, center, bar.height, bar.error, words, box))

    def draw(axes: Axes) -> None:
        for mark in marks:
            axes.bar(mark.x, mark.y, width * 0.92, color=legend[mark.series])
        _draw_errors(axes, marks)
        axes.set_xticks(range(len(groups)), list(map(printable, groups)))
        axes.set_xlabel(labels.x)
        axes.set_ylabel(labels.y)
        if is_share:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")

    notes = []
    if len(series) > 1:
        notes.append("Bars of a group stand in the order of the legend.")
    if any(mark.error for mark in marks):
        notes.append("Error bars: ± one standard error over the users.")
    return draw_svg(
        draw, label, legend if len(legend) > 1 else None, marks=marks, note=" ".join(notes)
    )


def _draw_errors(axes: Axes, marks: Sequence[Mark]) -> None:
    """Draw the error bars of marks that have errors."""
    for mark in marks:
        if mark.error:
            axes.errorbar(mark.x, mark.y, mark.error, fmt="none", **ERROR_STYLE)


def encoders(points: Sequence[EncoderPoint], label: str) -> Drawing | None:
    """Draw HR@10 of the paper's video encoders, ordered by accuracy, one line per tuning.

    Returns:
        None for fewer than two points.
    """
    if len(points) < 2:
        return None
    color_of = dict(zip(TUNINGS, PALETTE, strict=False))
    places = sorted({(point.accuracy, point.name) for point in points})
    marks = []
    for point in points:
        place = places.index((point.accuracy, point.name))
        at = f"{point.name}, ACC@5 {point.accuracy:.1f} %"
        marks.append(Mark(point.tuning, at, place, point.hit_rate))

    def draw(axes: Axes) -> None:
        for tuning, color in color_of.items():
            line = sorted((mark.x, mark.y) for mark in marks if mark.series == tuning)
            axes.plot(
                [place for place, _ in line],
                [hit_rate for _, hit_rate in line],
                color=color,
                marker=MARKERS[color],
                markersize=5,
                linewidth=1.0,
                linestyle="--",
            )
        # evenly spaced: placed by accuracy, many names would overlap
        names = [printable(f"{name}  {accuracy:.1f}") for accuracy, name in places]
        axes.set_xticks(
            range(len(places)), names, rotation=50, ha="right", rotation_mode="anchor", fontsize=8.5
        )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("video encoder, by its ACC@5 (%)")
        axes.set_ylabel(metric_axis("hr@10"))

    return draw_svg(draw, label, color_of, WIDE_INCHES, marks)


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
        _draw_errors(axes, marks)
        for (line, cost), mark in zip(points, marks, strict=True):
            color = color_of[line.tuning]
            axes.plot(cost, mark.y, color=color, marker=MARKERS[color], markersize=6.5)
            if len(points) <= MAX_NAMED_POINTS:
                # towards the middle, so that no name leaves the figure
                side = -1 if cost > middle else 1
                name = axes.annotate(
                    printable(line.short_name, MAX_NAME_CHARACTERS),
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


def waiting(runs: Sequence[Run], label: str) -> Drawing | None:
    """Draw how the best runs spend a step: waiting for data, or computing; None if not logged."""
    wait_of: dict[str, float] = {}
    for run in best(runs):
        _, waits = run.curve("speed/data_wait")
        if waits:
            # the median, because the first steps wait for the loader to start
            wait_of[run.name] = median(waits)
    if not wait_of:
        return None

    marks = []
    for place, (name, wait) in enumerate(wait_of.items()):
        shares = {"wait for data": (0.0, wait), "encode, recommend, update": (wait, 1.0)}
        for part, (start, end) in shares.items():
            box = Box(start, place + 0.3, end, place - 0.3)
            words = f"{100 * (end - start):.0f} %"
            marks.append(Mark(name, part, (start + end) / 2, place, words=words, box=box))

    def draw(axes: Axes) -> None:
        names = list(map(printable, wait_of))
        waits = list(wait_of.values())
        axes.barh(names, [1 - wait for wait in waits], 0.6, left=waits, color=PALETTE[0])
        axes.barh(names, waits, 0.6, color=PALETTE[1])
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.set_xlabel("share of the time (median of the log lines)")
        axes.grid(visible=False, axis="y")
        # barh puts the first bar at the bottom, but the tables list the first run at the top
        axes.invert_yaxis()

    width, height = SIZE_INCHES
    legend = {"wait for data": PALETTE[1], "encode, recommend, update": PALETTE[0]}
    height_of_bars = 0.9 + 0.28 * len(wait_of)
    return draw_svg(draw, label, legend, (width, max(0.4 * height, height_of_bars)), marks)
