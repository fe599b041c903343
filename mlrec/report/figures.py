"""The report's pictures, as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlrec.report.runs import Run
from mlrec.report.tables import popularity_groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#4c8df6", "#ef8a3c", "#2fb380", "#b06be8", "#e5577b", "#b9a22c", "#2fb0c7", "#8b8f98")
"""Colours of the runs, legible on white and on black."""
TEXT, GRID = "#010101", "#020202"
"""Stand-ins that become the page's own colours."""
SIZE_INCHES = (4.5, 3.0)
"""On a phone one figure fills the width with its letters at the text's size."""


def color(index: int) -> str:
    """The colour of the run at `index`."""
    return PALETTE[index % len(PALETTE)]


def curves(runs: Sequence[Run], metric: str, label: str, markers: bool = False) -> str:
    """A logged metric of all runs over the steps; "" where none logged it."""
    drawn = [(i, run.name, *run.curve(metric)) for i, run in enumerate(runs)]
    drawn = [entry for entry in drawn if entry[2]]
    if not drawn:
        return ""

    def draw(axes: Axes) -> None:
        for index, name, steps, values in drawn:
            axes.plot(steps, values, color=color(index), label=name, marker="o" if markers else None, markersize=3.5)
        axes.set_xlabel("step")
        axes.margins(x=0.02)

    return _svg(draw, label, legend=len(drawn) > 1)


def bars(runs: Sequence[Run], metric: str, label: str) -> str:
    """A test metric of all runs by popularity group of the target; "" where none has results."""
    groups = popularity_groups(runs)
    drawn = [(i, run) for i, run in enumerate(runs) if run.results]
    if not groups:
        return ""

    def draw(axes: Axes) -> None:
        width = 0.8 / len(drawn)
        for position, (index, run) in enumerate(drawn):
            at = [place + (position - (len(drawn) - 1) / 2) * width for place in range(len(groups))]
            heights = [run.metric(metric, group) or 0.0 for group in groups]
            axes.bar(at, heights, width * 0.92, color=color(index), label=run.name)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_xlabel("training interactions of the target")

    return _svg(draw, label, legend=len(drawn) > 1)


def _svg(draw: Callable[[Axes], None], label: str, legend: bool) -> str:
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no backend, no global state

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": label,  # the same figures give the same bytes, and ids that differ within a page
        "font.family": "sans-serif",
        "font.size": 10.0,
        "text.color": TEXT,
        "axes.labelcolor": TEXT,
        "axes.edgecolor": GRID,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.titlelocation": "left",
        "axes.titlesize": 11.0,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "lines.linewidth": 1.8,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": TEXT,
        "ytick.labelcolor": TEXT,
        "ytick.left": False,
        "legend.frameon": False,
        "legend.fontsize": 9.0,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(label)
        if legend:
            figure.legend(loc="outside lower center", ncols=2)
        sink = io.StringIO()
        figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(sink.getvalue(), label)


def _themed(svg: str, label: str) -> str:
    svg = svg[svg.index("<svg") :].replace(TEXT, "currentColor").replace(GRID, "var(--line)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
