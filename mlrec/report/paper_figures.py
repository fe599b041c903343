"""Figures of the paper's video encoders and of ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mlrec.report.figures import metric_axis
from mlrec.report.page import Drawing
from mlrec.report.palette import GREY, MARKERS, PALETTE
from mlrec.report.paper import EncoderPoint
from mlrec.report.paper_table import CostPoint
from mlrec.report.published import BASELINES, LATER_RESULTS, TUNINGS
from mlrec.report.svg import TEXT_PLACEHOLDER, Mark, draw_svg
from mlrec.report.wording import count_in_words, number
from mlrec.runtime.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (5.2, 3.8)
WIDE_INCHES = (6.4, 4.0)
MAX_NAMED_RUNS = 12
"""A figure with more of our runs shows their names on hover only."""
LINE_CLEARANCE = 0.003
"""Distance in HR@10 below which a name next to a point would touch a reference line."""
COST_NOTE = (
    "Cost: forward and backward pass of one video through the "
    "encoder without a cache, counted as in mlrec plan at the encoder's frames and image size. The "
    "paper reports no cost. With mlrec's activation cache, a frozen encoder costs this once."
)
COLOR_OF = dict(zip(TUNINGS, PALETTE, strict=False))


def encoders(points: Sequence[EncoderPoint], label: str) -> Drawing | None:
    """Draw HR@10 of the paper's video encoders, ordered by accuracy, one line per tuning.

    Returns:
        None for fewer than two points.
    """
    if len(points) < 2:
        return None
    places = sorted({(point.accuracy, point.name) for point in points})
    marks = []
    for point in points:
        place = places.index((point.accuracy, point.name))
        at = f"{point.name}, ACC@5 {point.accuracy:.1f} %"
        marks.append(Mark(point.tuning, at, place, point.hit_rate))

    def draw(axes: Axes) -> None:
        for tuning, color in COLOR_OF.items():
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

    return draw_svg(draw, label, COLOR_OF, WIDE_INCHES, marks)


def encoder_costs(points: Sequence[CostPoint]) -> Drawing | None:
    """Draw HR@10 over the training cost per video, by tuning; None without points.

    The best published encoder and our runs have names.
    """
    if not points:
        return None
    references = _references()

    def draw(axes: Axes) -> None:
        for label, hit_rate in references.items():
            axes.axhline(hit_rate, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
            axes.annotate(
                f"{label} {number(hit_rate)}",
                (0.005, hit_rate),
                (0, 2),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=7.5,
            )
        for point in points:
            _draw_point(axes, point)
        for point in _named(points):
            name = axes.annotate(
                printable(point.encoder),
                (point.gflops, point.hit_rate.value),
                (-7 if point.run else 7, _name_offset(point, references.values())),
                textcoords="offset points",
                ha="right" if point.run else "left",
                fontsize=7.5,
            )
            name.set_in_layout(False)
        axes.set_xscale("log")
        axes.set_xticks([1, 3, 10, 30, 100, 300, 1000])
        axes.xaxis.set_major_formatter(lambda value, _: count_in_words(value))
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.margins(x=0.06, y=0.1)
        axes.set_xlabel("GFLOP to train on a video once (log scale)")
        axes.set_ylabel("HR@10, test split")

    marks = [_mark(point) for point in points]
    has_ours = any(point.run for point in points)
    note = f"Hollow: published. Filled: ours. {COST_NOTE}" if has_ours else COST_NOTE
    return draw_svg(draw, "HR@10 over training cost", COLOR_OF, SIZE_INCHES, marks, note)


def _mark(point: CostPoint) -> Mark:
    series = f"{point.run}, {point.tuning}" if point.run else point.tuning
    place = f"{point.encoder}, {point.gflops:.1f} GFLOP"
    return Mark(series, place, point.gflops, point.hit_rate.value, point.hit_rate.error)


def _draw_point(axes: Axes, point: CostPoint) -> None:
    color = COLOR_OF[point.tuning]
    is_ours = bool(point.run)
    axes.errorbar(
        point.gflops,
        point.hit_rate.value,
        # the accuracy of a published figure is finer than its marker
        point.hit_rate.error if is_ours else None,
        color=color,
        marker=MARKERS[color],
        markersize=7 if is_ours else 5.5,
        markerfacecolor=color if is_ours else "none",
        ecolor=TEXT_PLACEHOLDER,
        elinewidth=1.0,
        zorder=3 if is_ours else 2,
    )


def _references() -> dict[str, float]:
    """Return the published HR@10 that are drawn as lines: ids alone, and the best later result."""
    sasrec = next(row for row in BASELINES if row.name == "SASRec")
    lines = {"SASRec with ids": sasrec.figures[0]}
    best = max(LATER_RESULTS, key=lambda result: result.figures[0] or 0.0)
    if best.figures[0] is not None:
        lines[f"{best.name}, {best.items}"] = best.figures[0]
    return lines


def _name_offset(point: CostPoint, lines: Iterable[float]) -> float:
    """Return how far (points) a name lies above its point: away from a line that it would touch."""
    distance = min((point.hit_rate.value - line for line in lines), key=abs)
    if abs(distance) > LINE_CLEARANCE:
        return -3
    return 3 if distance >= 0 else -9


def _named(points: Sequence[CostPoint]) -> list[CostPoint]:
    named = [point for point in points if point.run]
    if len(named) > MAX_NAMED_RUNS:
        named = []
    published = [point for point in points if not point.run]
    return [*named, max(published, key=lambda point: point.hit_rate.value)]
