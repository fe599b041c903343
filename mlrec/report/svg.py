"""Drawings as SVG in the colors of the page."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from mlrec.data.spacing import evenly_spaced
from mlrec.report.escape import harmless
from mlrec.report.page import Drawing
from mlrec.report.palette import PALETTE
from mlrec.report.tables import Row, Table
from mlrec.report.wording import number
from mlrec.runtime.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib accepts no CSS variables, so colors that no drawing uses stand for them
TEXT_PLACEHOLDER = "#010101"
GRID_PLACEHOLDER = "#020202"
"""Colors that are replaced by those of the page."""
SIZE_INCHES = (4.5, 3.0)
"""On a phone such a figure fills the width, with letters as large as the text's."""
MAX_UNCROWDED_BARS = 5
MAX_LISTED_MARKS = 12
"""Marks of a series in the table below its figure."""
HOVER_SIZE_POINTS = 10.0
"""Side of the square in which a point is hovered over."""
POINTS_PER_INCH = 72
"""Unit of the SVG files that matplotlib writes."""


class Box(NamedTuple):
    """A rectangle in the coordinates of the axes, such as a bar."""

    left: float
    bottom: float
    right: float
    top: float


class Mark(NamedTuple):
    """A value of a figure, shown where its point or bar is hovered over and in a table."""

    series: str
    """Name in the legend, such as the run's; empty for the only series."""
    place: str
    """Place on the x axis in words, such as "step 1,200"."""
    x: float
    y: float
    error: float | None = None
    """Standard error of y, drawn as an error bar; None without one."""
    words: str = ""
    """Value in words; empty for `y` ± `error`."""
    box: Box | None = None
    """The bar; None for a point."""

    def in_words(self) -> str:
        """Return the value, with its standard error if it has one."""
        if self.words:
            return self.words
        error = "" if self.error is None else f" ± {number(self.error)}"
        return f"{number(self.y)}{error}"


def draw_svg(
    draw: Callable[[Axes], None],
    label: str,
    legend: Mapping[str, str] | None = None,
    size_inches: tuple[float, float] = SIZE_INCHES,
    marks: Sequence[Mark] = (),
    note: str = "",
) -> Drawing:
    """Return what `draw` draws on axes with the title `label`; equal drawings have equal bytes.

    Args:
        legend: color of each name. It is shown below the figure, as text that wraps.
        marks: values that are shown on hover. `draw` draws them, error bars included.
        note: sentences below the figure.
    """
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no backend, no global state

    style: dict[Any, Any] = {
        "text.parse_math": False,  # a dollar sign in a name starts no formula
        # texts stay texts, so they take the page's font and can be searched
        "svg.fonttype": "none",
        "svg.hashsalt": repr((label, marks)),  # ids must differ within a page
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
        figure = Figure(figsize=size_inches, dpi=POINTS_PER_INCH, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(printable(label))
        # saved within the context, because matplotlib reads svg.* settings only when it writes
        sink = io.StringIO()
        with warnings.catch_warnings():
            # the browser draws the texts, in fonts that have more characters than matplotlib's
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
            figure.savefig(
                sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
        description = f"{label}. {_axes_in_words(axes)}"
        svg = _themed(sink.getvalue(), description)
        hover = _hover(axes, marks, size_inches[1] * POINTS_PER_INCH)
    return Drawing(
        svg=Markup(svg.replace("</svg>", f"{hover}</svg>")),
        label=label,
        legend=legend or {},
        note=note,
        values=_listed(marks) if marks else None,
    )


def _axes_in_words(axes: Axes) -> str:
    """Return what the axes show, for readers who do not see the figure."""
    labels = {"horizontal": axes.get_xlabel(), "vertical": axes.get_ylabel()}
    return " ".join(f"{name.capitalize()} axis: {text}." for name, text in labels.items() if text)


def _hover(axes: Axes, marks: Sequence[Mark], height: float) -> Markup:
    """Return an invisible rectangle for each mark, whose title browsers show on hover.

    Args:
        height: of the figure in points.
    """
    # the transform is that of the file only after it was written: the layout is made then
    groups = []
    for series in dict.fromkeys(mark.series for mark in marks):
        rectangles = []
        for mark in marks:
            if mark.series == series:
                rectangles.append(_hover_rectangle(axes, mark, height))
        groups.append(f"<g>{''.join(rectangles)}</g>")
    return Markup(f'<g class="marks">{"".join(groups)}</g>' if groups else "")


def _hover_rectangle(axes: Axes, mark: Mark, height: float) -> str:
    if mark.box is None:
        x, y = axes.transData.transform((mark.x, mark.y)).tolist()
        half = HOVER_SIZE_POINTS / 2
        left, bottom, right, top = x - half, y - half, x + half, y + half
    else:
        corners = [(mark.box.left, mark.box.bottom), (mark.box.right, mark.box.top)]
        (left, bottom), (right, top) = axes.transData.transform(corners).tolist()
    if not all(map(math.isfinite, (left, bottom, right, top))):
        return ""
    title = harmless(f"{mark.place}: {mark.in_words()}")
    if mark.series:
        title = harmless(mark.series) + "\n" + title
    return (
        f'<rect x="{left:.1f}" y="{height - top:.1f}" width="{right - left:.1f}" '
        f'height="{top - bottom:.1f}"><title>{title}</title></rect>'
    )


def _listed(marks: Sequence[Mark]) -> Table:
    """Return the values as a table, evenly spaced ones of a series with many."""
    by_series: dict[str, list[Mark]] = {}
    for mark in marks:
        by_series.setdefault(mark.series, []).append(mark)
    rows = []
    for series, own_marks in by_series.items():
        for place in evenly_spaced(len(own_marks), MAX_LISTED_MARKS):
            mark = own_marks[place]
            cells = (mark.place, mark.in_words()) if series else (mark.in_words(),)
            rows.append(Row(series or mark.place, cells, is_run=bool(series)))
    header = ("at", "value") if any(by_series) else ("value",)
    return Table("series" if any(by_series) else "at", header, tuple(rows))


def histogram(labels: Sequence[str], counts: Sequence[int], label: str, axis: str) -> Drawing:
    """Return bars of counts, with each count above its bar."""
    from matplotlib.ticker import MaxNLocator

    marks = []
    for place, (name, count) in enumerate(zip(labels, counts, strict=True)):
        box = Box(place - 0.425, 0, place + 0.425, count)
        marks.append(Mark("", f"{name} {axis}", place, count, words=f"{count:,}", box=box))

    def draw(axes: Axes) -> None:
        bars = axes.bar(range(len(counts)), counts, 0.85, color=PALETTE[0])
        is_crowded = len(counts) > MAX_UNCROWDED_BARS
        axes.bar_label(
            bars,
            [f"{count:,}" if count else "" for count in counts],
            padding=1,
            fontsize=7 if is_crowded else 8.5,
        )
        axes.set_xticks(range(len(counts)), labels, fontsize=8 if is_crowded else 10)
        # ranges such as 100-199 are wider than a bar of many
        if is_crowded and any("-" in name for name in labels):
            axes.set_xticks(
                range(len(counts)), labels, rotation=40, ha="right", rotation_mode="anchor"
            )
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
        axes.margins(y=0.12)
        axes.set_xlabel(axis)
        axes.set_ylabel(label.partition(" ")[0].lower())

    return draw_svg(draw, label, marks=marks)


def _themed(svg: str, description: str) -> str:
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
    # the others, such as "figure_1", would be the same in every figure of a page
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    accessible = f'<svg role="img" aria-label="{harmless(description)}"'
    # matplotlib escapes the texts that it draws
    return svg.replace("<svg", accessible, 1)
