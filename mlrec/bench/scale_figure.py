"""The picture of mlrec bench scale: videos that a rank encodes, and users per second of all, over the number of ranks."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mlrec import storage

COLORS = ("#4c8df6", "#ef8a3c")
"""The report's first two, legible on white and on black."""
SIZE_INCHES = (9.0, 3.4)


class Step(Protocol):
    """A row of the table."""

    @property
    def ranks(self) -> int: ...

    @property
    def users(self) -> int: ...

    @property
    def items_per_rank(self) -> tuple[int, int]: ...

    @property
    def step_s(self) -> float: ...


def write(out: Path, rows: Mapping[str, Sequence[Step]], labels: Mapping[str, str]) -> None:
    """Draws the rows of each kind of batch into the SVG `out`."""
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no backend, no global state

    figures: dict[str, Callable[[Step], float]] = {
        "videos that a rank encodes in a step": lambda row: row.items_per_rank[1],
        "users per second, predicted": lambda row: row.users / row.step_s,
    }
    with matplotlib.rc_context(
        {"svg.hashsalt": "scale", "svg.fonttype": "none"}
    ):  # the same figures give the same bytes
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        for axes, (title, value) in zip(
            figure.subplots(1, len(figures)), figures.items(), strict=True
        ):
            for color, (kind, found) in zip(COLORS, rows.items(), strict=True):
                axes.plot(
                    [row.ranks for row in found],
                    [value(row) for row in found],
                    color=color,
                    marker="o",
                    label=labels[kind],
                )
            axes.set(title=title, xlabel="ranks", yscale="log")
            axes.set_xscale("log", base=4)
            axes.set_xticks([row.ranks for row in max(rows.values(), key=len)])
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.minorticks_off()
            axes.grid(axis="y", linewidth=0.5)
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].legend(frameon=False)
        sink = io.BytesIO()
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    storage.write_bytes(str(out), sink.getvalue())
