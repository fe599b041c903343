"""What runs cost: speed, time per epoch, memory and trained parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from mlrec.report.runs import Run
from mlrec.report.tables import Row, Table
from mlrec.report.wording import NONE, duration
from mlrec.runtime.units import rounded_size


def speed_table(runs: Sequence[Run]) -> Table:
    """Return how fast the runs trained: medians over the log, total bytes, peak memory."""
    aggregates: dict[str, tuple[str, Callable[[list[float]], str]]] = {
        "users/s": ("speed/users_per_s", lambda values: f"{median(values):,.0f}"),
        "videos/s": ("speed/videos_per_s", lambda values: f"{median(values):,.0f}"),
        "slots/video": ("speed/dedup", lambda values: f"{median(values):.1f}"),
        "data wait": ("speed/data_wait", lambda values: f"{median(values):.0%}"),
        "prefix hits": ("data/prefix_hits", lambda values: f"{median(values):.0%}"),
        "read": ("data/bytes_read", lambda values: rounded_size(sum(values))),
        "from remote": ("data/remote_bytes", lambda values: rounded_size(sum(values))),
        "peak memory": ("memory/peak_bytes", lambda values: rounded_size(max(values))),
    }
    rows = []
    for run in runs:
        cells = []
        for metric, in_words in aggregates.values():
            _, values = run.curve(metric)
            cells.append(in_words(values) if values else NONE)
        # a run that logged no step has no line
        if cells[0] != NONE:
            cells.append(duration(run.info.get("hours")))
            rows.append(Row(run.name, tuple(cells)))
    return Table("medians over the logged steps", (*aggregates, "duration"), tuple(rows))
