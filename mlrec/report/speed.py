"""How fast runs trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from mlrec.config.item_units import item_unit
from mlrec.report.runs import Run
from mlrec.report.tables import Row, Table
from mlrec.report.wording import NONE, duration
from mlrec.runtime.units import rounded_size

Aggregate = Callable[[list[float]], str]


def speed_table(runs: Sequence[Run]) -> Table:
    """Return how fast the runs trained: medians over the log, total bytes, peak memory."""
    aggregates: dict[str, tuple[str, Aggregate]] = {
        "users/s": ("speed/users_per_s", _count),
        "items/s": ("speed/videos_per_s", _count),
        "slots/item": ("speed/dedup", lambda values: f"{median(values):.1f}"),
        "data wait": ("speed/data_wait", _share),
        "prefix hits": ("data/prefix_hits", _share),
        "read": ("data/bytes_read", lambda values: rounded_size(sum(values))),
        "from remote": ("data/remote_bytes", lambda values: rounded_size(sum(values))),
        "peak memory": ("memory/peak_bytes", lambda values: rounded_size(max(values))),
    }
    logged = [run for run in runs if run.curve("speed/users_per_s")[1]]
    units = {item_unit(run.encoders) for run in logged}
    rows = []
    for run in logged:
        cells = []
        for name, (metric, in_words) in aggregates.items():
            _, values = run.curve(metric)
            cell = in_words(values) if values else NONE
            # with several units, each line names its own
            if name == "items/s" and values and len(units) > 1:
                cell = f"{cell} {item_unit(run.encoders)}s/s"
            cells.append(cell)
        rows.append(Row(run.name, (*cells, duration(run.info.get("hours")))))
    header = list(aggregates)
    if len(units) == 1:
        (unit,) = units
        header[1] = f"{unit}s/s"
        header[2] = f"slots/{unit}"
    return Table("medians over the logged steps", (*header, "time"), tuple(rows))


def _count(values: list[float]) -> str:
    return f"{median(values):,.0f}"


def _share(values: list[float]) -> str:
    return f"{100 * median(values):.0f} %"
