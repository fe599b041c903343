"""Figure of mlrec bench scale: items of a rank and users per second over the number of ranks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlrec import storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072b2", "#d55e00")
"""The first two colors of the report."""
MARKERS = ("o", "s")
DESCRIPTION = (
    "Two charts over the number of ranks, on logarithmic axes: videos that a rank encodes in a "
    "step, and users per second, predicted."
)
"""For readers who do not see the figure."""
SIZE_INCHES = (9.0, 3.4)


class Step(Protocol):
    """Row of the table."""

    @property
    def ranks(self) -> int: ...

    @property
    def users(self) -> int: ...

    @property
    def items_per_rank(self) -> tuple[int, int]: ...

    @property
    def step_s(self) -> float: ...


class Curve(Protocol):
    """Rows of one way to choose the global batch."""

    @property
    def title(self) -> str: ...

    @property
    def rows(self) -> Sequence[Step]: ...


def write(out: Path, curves: Sequence[Curve]) -> None:
    """Draw the rows of each curve into the SVG `out`."""
    import matplotlib

    # Without pyplot, which keeps figures in global state and picks a backend.
    from matplotlib.figure import Figure

    # The hash salt makes the ids in the file, and thus its bytes, the same for the same figures.
    with matplotlib.rc_context({"svg.hashsalt": "scale", "svg.fonttype": "none"}):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        items_axes, speed_axes = figure.subplots(1, 2)
        for color, marker, curve in zip(COLORS, MARKERS, curves, strict=True):
            ranks = [row.ranks for row in curve.rows]
            most_items = [row.items_per_rank[1] for row in curve.rows]
            users_per_s = [row.users / row.step_s for row in curve.rows]
            style = {"color": color, "marker": marker, "label": curve.title}
            items_axes.plot(ranks, most_items, **style)
            speed_axes.plot(ranks, users_per_s, **style)
        # The longest curve has a row for every number of ranks that any curve has.
        longest = max((curve.rows for curve in curves), key=len)
        ticks = [row.ranks for row in longest]
        _label(items_axes, "videos that a rank encodes in a step", ticks)
        _label(speed_axes, "users per second, predicted", ticks)
        items_axes.legend(frameon=False)
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    accessible = f'<svg role="img" aria-label="{DESCRIPTION}" '.encode()
    storage.write_bytes(str(out), svg.getvalue().replace(b"<svg ", accessible, 1))


def _label(axes: Axes, title: str, ticks: Sequence[int]) -> None:
    axes.set(title=title, xlabel="ranks", yscale="log")
    axes.set_xscale("log", base=4)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    axes.grid(axis="y", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
