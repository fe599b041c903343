"""Drawings as SVG in the colors of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mlrec.report.escape import harmless
from mlrec.report.page import Drawing
from mlrec.runtime.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#8b8f98"
PALETTE = ("#4c8df6", "#ef8a3c", "#2fb380", "#b06be8", "#e5577b", "#b9a22c", "#2fb0c7", "#a9744f")
"""Legible on white and on black."""
# matplotlib accepts no CSS variables, so colors that no drawing uses stand for them
TEXT_PLACEHOLDER = "#010101"
GRID_PLACEHOLDER = "#020202"
"""Colors that are replaced by those of the page."""
SIZE_INCHES = (4.5, 3.0)
"""On a phone such a figure fills the width, with letters as large as the text's."""
MAX_UNCROWDED_BARS = 7


def draw_svg(
    draw: Callable[[Axes], None],
    label: str,
    legend: Mapping[str, str] | None = None,
    size_inches: tuple[float, float] = SIZE_INCHES,
) -> Drawing:
    """Return what `draw` draws on axes with the title `label`; equal drawings have equal bytes.

    Args:
        legend: color of each name. It is shown below the figure, as text that wraps.
    """
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no backend, no global state

    style: dict[Any, Any] = {
        "text.parse_math": False,  # a dollar sign in a name starts no formula
        # texts stay texts, so they take the page's font and can be searched
        "svg.fonttype": "none",
        "svg.hashsalt": label,  # ids must differ within a page
        "font.family": "sans-serif",
        "font.size": 10.0,
        "text.color": TEXT_PLACEHOLDER,
        "axes.labelcolor": TEXT_PLACEHOLDER,
        "axes.edgecolor": GRID_PLACEHOLDER,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.titlelocation": "left",
        "axes.titlesize": 11.0,
        "grid.color": GRID_PLACEHOLDER,
        "grid.linewidth": 0.7,
        "lines.linewidth": 1.8,
        "xtick.color": GRID_PLACEHOLDER,
        "ytick.color": GRID_PLACEHOLDER,
        "xtick.labelcolor": TEXT_PLACEHOLDER,
        "ytick.labelcolor": TEXT_PLACEHOLDER,
        "ytick.left": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size_inches, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(printable(label))
        # saved within the context, because matplotlib reads svg.* settings only when it writes
        sink = io.StringIO()
        figure.savefig(
            sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return Drawing(_themed(sink.getvalue(), label), legend or {})


def histogram(labels: Sequence[str], counts: Sequence[int], label: str, axis: str) -> Drawing:
    """Return bars of counts, with each count above its bar."""

    def draw(axes: Axes) -> None:
        bars = axes.bar(range(len(counts)), counts, 0.85, color=PALETTE[0])
        is_crowded = len(counts) > MAX_UNCROWDED_BARS
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


def _themed(svg: str, label: str) -> Markup:
    """Return matplotlib's SVG with the page's colors and fonts, scaled to the page's width."""
    # an HTML page may not contain the XML declaration and the doctype that come first
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(TEXT_PLACEHOLDER, "currentColor").replace(GRID_PLACEHOLDER, "var(--line)")
    # metadata holds the date, which would change the bytes of equal drawings
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", svg)
    # without width and height the figure takes the width of its card
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    accessible = f'<svg role="img" aria-label="{harmless(label)}"'
    # matplotlib escapes the texts that it draws
    return Markup(svg.replace("<svg", accessible, 1))
