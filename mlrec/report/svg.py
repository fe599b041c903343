"""Drawings as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlrec.report.escape import in_html
from mlrec.runtime.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#8b8f98"
PALETTE = ("#4c8df6", "#ef8a3c", "#2fb380", "#b06be8", "#e5577b", "#b9a22c", "#2fb0c7", "#a9744f")
"""Legible on white and on black."""
TEXT, GRID = "#010101", "#020202"
"""Stand-ins that become the page's own colours."""
SIZE_INCHES = (4.5, 3.0)
"""On a phone one figure fills the width with its letters at the text's size."""


def draw_svg(
    draw: Callable[[Axes], None],
    label: str,
    legend: Mapping[str, str] | None = None,
    size_inches: tuple[float, float] = SIZE_INCHES,
) -> str:
    """What `draw` draws on axes with the title `label`; the same drawing gives the same bytes.

    Args:
        legend: name to colour; it stands below, as text of the page, which wraps.
    """
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no backend, no global state

    style: dict[Any, Any] = {
        "text.parse_math": False,  # a dollar sign in a name is one
        "svg.fonttype": "none",
        "svg.hashsalt": label,  # ids that differ within a page
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
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size_inches, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(printable(label))
        sink = io.StringIO()
        figure.savefig(
            sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    keys = (
        f'<span><i style="background:{color}"></i>{in_html(name)}</span>'
        for name, color in (legend or {}).items()
    )
    return _themed(sink.getvalue(), label) + (
        f'<p class="legend">{"".join(keys)}</p>' if legend else ""
    )


def histogram(labels: Sequence[str], counts: Sequence[int], label: str, axis: str) -> str:
    """Bars of counts, each count above its bar."""

    def draw(axes: Axes) -> None:
        bars = axes.bar(range(len(counts)), counts, 0.85, color=PALETTE[0])
        is_crowded = len(counts) > 7
        axes.bar_label(
            bars,
            [f"{count:,}" if count else "" for count in counts],
            padding=1,
            fontsize=7 if is_crowded else 8.5,
        )
        axes.set_xticks(range(len(counts)), labels, fontsize=7.5 if is_crowded else 10)
        axes.margins(y=0.12)
        axes.set_xlabel(axis)

    return draw_svg(draw, label)


def _themed(svg: str, label: str) -> str:
    svg = svg[svg.index("<svg") :].replace(TEXT, "currentColor").replace(GRID, "var(--line)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{in_html(label)}"', 1)
