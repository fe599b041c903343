"""metrics.jsonl: what a run logged, one line per step that was logged."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AllowInfNan, Strict

from mlrec import storage
from mlrec.config.run_files import METRICS_FILE
from mlrec.storage.typed_json import parse_json_lines, read_bounded

# A plain dict cannot carry STRICT, so each type of number states it.
_Line: Any = dict[
    str, Annotated[int, Strict()] | Annotated[float, Strict(), AllowInfNan(False)] | None
]

# Room for about a million logged steps of 1 KB each.
MAX_METRICS_BYTES = 1 << 30


def read_metrics(run_path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, oldest first; none without the file.

    A line has step, time (seconds since 1970) and metrics. A metric that is not finite is None. The
    last line is ignored if a crash cut it off.

    Raises:
        ValueError: another line is damaged.
    """
    path = run_path / METRICS_FILE
    if not path.exists():
        return []
    remedy = f"Remove this line from {path}, or the file to continue without the figures so far"
    lines = parse_json_lines(
        read_bounded(path, MAX_METRICS_BYTES, remedy), _Line, str(path), remedy
    )
    for place, line in enumerate(lines, start=1):
        step = line.get("step")
        if not isinstance(step, int) or step < 0:
            raise ValueError(
                f"{path}, line {place}: step is {step!r}, not a whole number of 0 or more. "
                f"{remedy}."
            )
    return lines


class MetricsFile:
    """Appends one JSON line per call, so that a killed run keeps what it logged."""

    def __init__(self, run_path: Path, resumed_step: int) -> None:
        path = run_path / METRICS_FILE
        # Steps after the checkpoint are taken again, and would be in the file twice.
        lines = [line for line in read_metrics(run_path) if line["step"] <= resumed_step]
        # Rewritten as a whole before appending, which also drops a line that a crash cut off.
        content = "".join(json.dumps(line) + "\n" for line in lines)
        storage.write_bytes(str(path), content.encode())
        self._file = path.open("a")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        # JSON has no NaN: what is not a number is null
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        # The line survives a kill of the process, but without fsync not a power failure.
        self._file.flush()

    def message(self, text: str) -> None:
        del text

    def close(self, exit_code: int) -> None:
        del exit_code
        self._file.close()
