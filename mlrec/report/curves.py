"""Figures of logged metrics over the steps of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlrec.report.figures import LOG_SCALE, colors
from mlrec.report.page import Drawing
from mlrec.report.palette import GREY, MARKERS
from mlrec.report.runs import Run
from mlrec.report.smoothing import MAX_WINDOW_SHARE, extremes, smoothed, spaced
from mlrec.report.svg import Mark, draw_svg
from mlrec.report.wording import number
from mlrec.runtime.printable import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_DRAWN_POINTS = 500
"""Points of a curve in the figure."""
MAX_GREY_POINTS = 100
"""Points of a curve without a color."""
MAX_HOVERED_POINTS = 100
"""Points of a curve that show their value on hover."""
MAX_MARKED_POINTS = 30
"""A longer curve has NUM_MARKERS markers instead of one per point."""
NUM_MARKERS = 12
MIN_SMOOTHED_POINTS = 200
"""A longer curve is smoothed over SMOOTHED_SHARE of its points."""
SMOOTHED_SHARE = 1 / 50
MIN_LOG_RATIO = 100.0
"""Largest over smallest value from which an axis is logarithmic: two decades."""


@dataclass(frozen=True)
class Curve:
    """A logged metric of one run."""

    run: str
    steps: list[int]
    values: list[float]
    steps_per_epoch: float | None
    """None if the run logged no epochs."""
    smooth: list[float] | None = None
    """Smoothed values; None for a curve that is drawn as it is."""

    @property
    def line(self) -> list[float]:
        """The values of the main line."""
        return self.values if self.smooth is None else self.smooth

    def place_in_words(self, index: int) -> str:
        """Return the step of a value, and the epoch if it is known."""
        step = self.steps[index]
        if self.steps_per_epoch is None:
            return f"step {step:,}"
        return f"step {step:,} (epoch {step / self.steps_per_epoch:.3g})"

    def marks(self, is_log: bool) -> list[Mark]:
        """Return the values that the figure shows on hover."""
        marks = []
        for index in spaced(len(self.values), MAX_HOVERED_POINTS, is_log):
            words = number(self.values[index])
            if self.smooth is not None:
                words = f"{number(self.smooth[index])} smoothed, {words} logged"
            step = self.steps[index]
            place = self.place_in_words(index)
            marks.append(Mark(self.run, place, step, self.line[index], words=words))
        return marks


def curves(runs: Sequence[Run], metric: str, label: str, axis: str) -> Drawing | None:
    """Draw a logged metric of all runs over the steps; None if no run logged it.

    Long curves are smoothed, and drawn a second time over a logarithmic axis.

    Args:
        axis: label of the vertical axis, with the unit.
    """
    logged = []
    for run in runs:
        steps, values = run.curve(metric)
        if steps:
            logged.append(Curve(run.name, steps, values, _steps_per_epoch(run)))
    if not logged:
        return None
    longest = max(len(curve.values) for curve in logged)
    window = round(longest * SMOOTHED_SHARE) if longest > MIN_SMOOTHED_POINTS else 1
    if window > 1:
        logged = [_smoothed(curve, window) for curve in logged]
    figure = _Figure(logged, colors(runs), axis)
    note = _note(window, longest)
    drawing = figure.drawing(label, note)
    if window == 1 or not _spans_decades([step for curve in logged for step in curve.steps]):
        return drawing
    over_log = figure.drawing(f"{label}, logarithmic steps", note, is_log=True)
    return replace(drawing, over_log_steps=over_log)


def _steps_per_epoch(run: Run) -> float | None:
    steps, epochs = run.curve("train/epoch")
    return steps[-1] / epochs[-1] if epochs and epochs[-1] else None


def _smoothed(curve: Curve, window: int) -> Curve:
    return replace(curve, smooth=smoothed(curve.values, 1 - 1 / window))


def _note(window: int, longest: int) -> str:
    """Return what the figure does to long curves.

    Args:
        longest: number of logged points of the longest curve.
    """
    notes = []
    if window > 1:
        notes.append(
            f"Smoothed by an exponential moving average of weight {1 - 1 / window:.3g}, which is "
            f"less in the first {round(window / MAX_WINDOW_SHARE):,} log lines. Faint: as logged."
        )
    if longest > MAX_DRAWN_POINTS:
        notes.append(f"Drawn with at most {MAX_DRAWN_POINTS} of {longest:,} points per run.")
    return " ".join(notes)


def _spans_decades(values: Sequence[float]) -> bool:
    """Tell whether positive values need a logarithmic axis; others cannot have one."""
    positive = [value for value in values if value > 0]
    return bool(positive) and max(positive) > MIN_LOG_RATIO * min(positive)


class _Figure:
    """The curves of a figure, with and without a color."""

    def __init__(self, curves_of_runs: Sequence[Curve], color_of: dict[str, str], axis: str):
        self.colored = [curve for curve in curves_of_runs if curve.run in color_of]
        self.others = [curve for curve in curves_of_runs if curve.run not in color_of]
        self.color_of = color_of
        self.axis = axis
        self.is_long = any(curve.smooth is not None for curve in curves_of_runs)
        lines = [value for curve in curves_of_runs for value in curve.line]
        self.has_log_values = min(lines) > 0 and _spans_decades(lines)

    def drawing(self, label: str, note: str, is_log: bool = False) -> Drawing:
        """Return the figure.

        Args:
            is_log: whether the steps have a logarithmic axis.
        """
        legend = {curve.run: self.color_of[curve.run] for curve in self.colored}
        if self.others:
            legend[counted(len(self.others), "other")] = GREY
        marks = [mark for curve in self.colored for mark in curve.marks(is_log)]

        def draw(axes: Axes) -> None:
            # grey and raw curves lie below, so that colored ones stay visible
            for curve in self.others:
                places = extremes(curve.line, MAX_GREY_POINTS, is_log)
                _draw_line(axes, curve, curve.line, places, color=GREY, linewidth=0.8)
            for curve in self.colored:
                if curve.smooth is not None:
                    color = self.color_of[curve.run]
                    places = extremes(curve.values, MAX_DRAWN_POINTS, is_log)
                    raw = {"color": color, "linewidth": 0.7, "alpha": 0.3}
                    _draw_line(axes, curve, curve.values, places, **raw)
            for curve in self.colored:
                self._draw_main_line(axes, curve, is_log)
            if is_log:
                axes.set_xscale("log")
            if self.has_log_values:
                axes.set_yscale("log")
            self._draw_axes(axes, is_log)

        return draw_svg(draw, label, legend if len(legend) > 1 else None, marks=marks, note=note)

    def _draw_main_line(self, axes: Axes, curve: Curve, is_log: bool) -> None:
        color = self.color_of[curve.run]
        places = extremes(curve.line, MAX_DRAWN_POINTS, is_log)
        _draw_line(axes, curve, curve.line, places, color=color)
        is_short = len(curve.line) <= MAX_MARKED_POINTS
        places = spaced(len(curve.line), MAX_MARKED_POINTS if is_short else NUM_MARKERS, is_log)
        marker = {"marker": MARKERS[color], "markersize": 4.5, "linestyle": ""}
        _draw_line(axes, curve, curve.line, places, color=color, **marker)

    def _draw_axes(self, axes: Axes, is_log: bool) -> None:
        from matplotlib.ticker import MaxNLocator, NullFormatter

        axes.set_xlabel(f"step{LOG_SCALE}" if is_log else "step")
        axes.set_ylabel(f"{self.axis}{LOG_SCALE}" if self.has_log_values else self.axis)
        axes.margins(x=0.02)
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        if not is_log:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        # the default's powers of ten are formulas, which the page does not draw
        axes.xaxis.set_minor_formatter(NullFormatter())
        if self.has_log_values:
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        steps_per_epoch = self._common_steps_per_epoch()
        if steps_per_epoch is not None and not is_log:
            epochs = axes.secondary_xaxis(
                "top",
                functions=(
                    lambda steps: np.asarray(steps) / steps_per_epoch,
                    lambda epochs: np.asarray(epochs) * steps_per_epoch,
                ),
            )
            epochs.set_xlabel("epoch")
            epochs.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            epochs.spines["top"].set_visible(False)

    def _common_steps_per_epoch(self) -> float | None:
        """Return the steps of an epoch; None if they are unknown or differ between runs."""
        # a run without training has one validation, at step 0, and no epochs
        trained = [curve for curve in self.colored + self.others if curve.steps[-1] > 0]
        counts = [curve.steps_per_epoch for curve in trained]
        known = [count for count in counts if count is not None]
        if not known or len(known) < len(counts):
            return None
        # an epoch that ends with a log line gives the exact count, others one with rounding
        return known[0] if max(known) <= 1.01 * min(known) else None


def _draw_line(
    axes: Axes, curve: Curve, values: Sequence[float], places: Sequence[int], **style: Any
) -> None:
    """Draw the values at some places of a curve."""
    steps = [curve.steps[place] for place in places]
    axes.plot(steps, [values[place] for place in places], **style)
