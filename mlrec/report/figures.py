"""The report's pictures of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from mlrec.report.paper import EncoderPoint
from mlrec.report.published import TUNINGS
from mlrec.report.runs import Run
from mlrec.report.svg import GREY, PALETTE, SIZE_INCHES, draw_svg
from mlrec.report.tables import popularity_groups
from mlrec.runtime.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = len(PALETTE)
"""Runs that a figure tells apart; of more, the best have a colour and the others are grey."""


def colors(runs: Sequence[Run]) -> dict[str, str]:
    """The colour of each run that has one, by its name."""
    return {run.name: color for run, color in zip(best(runs), PALETTE, strict=False)}


def best(runs: Sequence[Run]) -> list[Run]:
    """All runs, or of many the best by HR@10, in the order given."""
    if len(runs) <= MOST:
        return list(runs)
    ranked = sorted(range(len(runs)), key=lambda i: -(runs[i].metric("hr@10") or 0.0))
    return [runs[i] for i in sorted(ranked[: MOST - 1])]


def curves(runs: Sequence[Run], metric: str, label: str, markers: bool = False) -> str:
    """A logged metric of all runs over the steps; "" where none logged it."""
    color_of = colors(runs)
    drawn = [(run.name, *run.curve(metric)) for run in runs]
    drawn = [entry for entry in drawn if entry[1]]
    if not drawn:
        return ""
    others = [entry for entry in drawn if entry[0] not in color_of]
    legend = {name: color_of[name] for name, _, _ in drawn if name in color_of}
    legend |= {f"{len(others)} others": GREY} if others else {}

    def draw(axes: Axes) -> None:
        for _, steps, values in others:
            axes.plot(steps, values, color=GREY, linewidth=0.8, alpha=0.5)
        for name, steps, values in drawn:
            if name in color_of:
                marker = "o" if markers and len(steps) < 50 else None
                axes.plot(steps, values, color=color_of[name], marker=marker, markersize=3.5)
        axes.set_xlabel("step")
        axes.margins(x=0.02)

    return draw_svg(draw, label, legend if len(legend) > 1 else None)


def bars(runs: Sequence[Run], metric: str, label: str) -> str:
    """A test metric of the best runs by popularity group of the target, cold items first; "" where none has results."""
    groups = popularity_groups(runs)
    series = {
        run.name: [run.metric(metric, group) or 0.0 for group in groups]
        for run in best(runs)
        if run.results
    }
    return (
        _grouped(series, colors(runs), groups, label, "training interactions of the target")
        if groups
        else ""
    )


def recommended_bars(runs: Sequence[Run], label: str) -> str:
    """What share of the recommendations of the best runs is in each popularity group, beside the targets' shares; "" for none."""
    found = [(run.name, run.recommended) for run in best(runs) if run.recommended is not None]
    if not found:
        return ""
    series = {name: _shares(recommended.popularity["recommended"]) for name, recommended in found}
    series["what the users watched"] = _shares(found[0][1].popularity["targets"])
    groups = list(found[0][1].popularity["targets"])
    return _grouped(series, colors(runs), groups, label, "training interactions of the item")


def _shares(counts: Mapping[str, int]) -> list[float]:
    return [count / max(1, sum(counts.values())) for count in counts.values()]


def _grouped(
    series: dict[str, list[float]],
    color_of: dict[str, str],
    groups: Sequence[str],
    label: str,
    axis: str,
) -> str:
    legend = {name: color_of.get(name, GREY) for name in series}

    def draw(axes: Axes) -> None:
        width = 0.8 / len(series)
        for position, (name, heights) in enumerate(series.items()):
            at = [
                place + (position - (len(series) - 1) / 2) * width for place in range(len(groups))
            ]
            axes.bar(at, heights, width * 0.92, color=legend[name])
        axes.set_xticks(range(len(groups)), list(map(printable, groups)))
        axes.set_xlabel(axis)

    return draw_svg(draw, label, legend if len(legend) > 1 else None)


def encoders(points: Sequence[EncoderPoint], label: str) -> str:
    """HR@10 of the paper's video encoders in the order of their accuracy, for each tuning; "" for less than two."""
    if len(points) < 2:
        return ""
    color_of = dict(zip(TUNINGS, PALETTE, strict=False))
    places = sorted({(point.accuracy, point.name) for point in points})

    def draw(axes: Axes) -> None:
        for tuning, color in color_of.items():
            own = sorted(
                (places.index((point.accuracy, point.name)), point.hit_rate)
                for point in points
                if point.tuning == tuning
            )
            axes.plot(
                [x for x, _ in own],
                [y for _, y in own],
                color=color,
                marker="o",
                markersize=5,
                linewidth=1.0,
                linestyle="--",
            )
        names = [
            printable(f"{name}  {accuracy:.1f}") for accuracy, name in places
        ]  # by distance many would stand on each other
        axes.set_xticks(
            range(len(places)), names, rotation=50, ha="right", rotation_mode="anchor", fontsize=8.5
        )
        axes.set_ylim(bottom=0)

    return draw_svg(draw, label, color_of, size_inches=(6.4, 4.0))


def waiting(runs: Sequence[Run], label: str) -> str:
    """Where the time of a step goes, for the best runs: waiting for data, or computing; "" where none logged it."""
    found = {
        run.name: median(values)
        for run in best(runs)
        if (values := run.curve("speed/data_wait")[1])
    }
    if not found:
        return ""

    def draw(axes: Axes) -> None:
        names, waits = list(map(printable, found)), list(found.values())
        axes.barh(names, [1 - wait for wait in waits], 0.6, left=waits, color=PALETTE[0])
        axes.barh(names, waits, 0.6, color=PALETTE[1])
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()

    width, height = SIZE_INCHES
    legend = {"wait for data": PALETTE[1], "encode, recommend, update": PALETTE[0]}
    return draw_svg(draw, label, legend, (width, max(0.4 * height, 0.7 + 0.28 * len(found))))
