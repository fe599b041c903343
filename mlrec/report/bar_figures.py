"""Figures of bars: metrics and recommendations by popularity, and where time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from mlrec.report.figures import MAX_LABEL_COLUMNS, best, draw_errors, metric_axis
from mlrec.report.page import Drawing
from mlrec.report.palette import GREY, PALETTE
from mlrec.report.runs import Run
from mlrec.report.svg import SIZE_INCHES, Box, Mark, draw_svg
from mlrec.report.tables import popularity_groups
from mlrec.runs.recommendations import shares_of
from mlrec.runtime.printable import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Bar(NamedTuple):
    """Height of a bar."""

    height: float
    error: float | None = None
    """Standard error of the height; None without an error bar."""


class AxisLabels(NamedTuple):
    """What the axes show, with units."""

    x: str
    y: str


def bars(
    runs: Sequence[Run], metric: str, label: str, color_of: Mapping[str, str]
) -> Drawing | None:
    """Draw a metric by popularity group of the target, cold items first.

    Args:
        color_of: colors on the page, by name; runs without one are not drawn.

    Returns:
        None if no such run has results.
    """
    groups = popularity_groups(runs)
    series: dict[str, list[Bar]] = {}
    for run in runs:
        if run.results and run.name in color_of:
            series[run.name] = [
                Bar(run.metric(metric, group) or 0.0, run.error(metric, group)) for group in groups
            ]
    if not groups or not series:
        return None
    axes = AxisLabels("training interactions of the target", metric_axis(metric))
    return _grouped(series, color_of, groups, label, axes)


def recommended_bars(
    runs: Sequence[Run], label: str, color_of: Mapping[str, str]
) -> Drawing | None:
    """Draw how the runs' recommendations are spread over popularity groups.

    The targets' shares are drawn for comparison.

    Args:
        color_of: colors on the page, by name; runs without one are not drawn.

    Returns:
        None if no such run was evaluated.
    """
    series: dict[str, list[Bar]] = {}
    targets: Mapping[str, int] = {}
    for run in runs:
        if run.recommended is not None and run.name in color_of:
            popularity = run.recommended.popularity
            series[run.name] = _shares(popularity["recommended"])
            targets = targets or popularity["targets"]
    if not series:
        return None
    series["what the users watched"] = _shares(targets)
    axes = AxisLabels("training interactions of the item", "share of recommendations")
    return _grouped(series, color_of, list(targets), label, axes, is_share=True)


def _shares(counts: Mapping[str, int]) -> list[Bar]:
    return [Bar(share) for share in shares_of(counts).values()]


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
        draw_errors(axes, marks)
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
        places = range(len(wait_of))
        names = [shortened(name, MAX_LABEL_COLUMNS) for name in wait_of]
        waits = list(wait_of.values())
        axes.barh(places, [1 - wait for wait in waits], 0.6, left=waits, color=PALETTE[0])
        axes.barh(places, waits, 0.6, color=PALETTE[1])
        axes.set_yticks(places, names, fontsize=8.5)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.set_xlabel("share of the time (median)")
        axes.grid(visible=False, axis="y")
        # barh puts the first bar at the bottom, but the tables list the first run at the top
        axes.invert_yaxis()

    width, height = SIZE_INCHES
    legend = {"wait for data": PALETTE[1], "encode, recommend, update": PALETTE[0]}
    height_of_bars = 0.9 + 0.28 * len(wait_of)
    return draw_svg(draw, label, legend, (width, max(0.4 * height, height_of_bars)), marks)
