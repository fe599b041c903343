"""What runs cost: speed, time per epoch, memory and trained parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, NamedTuple

from mlrec.report.runs import Run
from mlrec.report.seeds import Line, Spread, lines_of
from mlrec.report.significance import is_small, small_note, uncertainty_note
from mlrec.report.tables import Row, Table
from mlrec.report.wording import NONE, count_in_words
from mlrec.runtime.units import rounded_size


class EpochSeconds(NamedTuple):
    """Training time of an epoch (seconds), without rankings and checkpoints; None if unknown."""

    first: float | None
    """Of the first epoch, which fills the activation cache."""
    later: float | None
    """Median of the later epochs."""


@dataclass(frozen=True)
class CostLine(Line):
    """The cost and the metrics of a run, or of runs that differ only in their seed."""

    @property
    def tuning(self) -> str:
        """How the run's encoders are tuned."""
        return tuning_of(self.runs[0])

    @property
    def trained(self) -> int | None:
        """Number of trained parameters."""
        trained: int | None = self.runs[0].info.get("parameters", {}).get("trained")
        return trained

    @property
    def epoch_s(self) -> EpochSeconds:
        """Mean over the seeds."""
        return _mean_seconds([epoch_seconds(run) for run in self.runs])

    @property
    def epoch_cpu_s(self) -> EpochSeconds:
        """Processor time of all ranks, mean over the seeds."""
        return _mean_seconds([epoch_cpu_seconds(run) for run in self.runs])

    @property
    def peak_bytes(self) -> float | None:
        """Peak memory of a rank (bytes)."""
        peaks: list[float] = []
        for run in self.runs:
            peaks += run.curve("memory/peak_bytes")[1]
        return max(peaks, default=None)


def tuning_of(run: Run) -> str:
    """Return how a run's encoders are tuned, such as "ids + lora"; features have no tuning."""
    parts = []
    for encoder in run.encoders:
        kind = encoder.partition("/")[0]
        if kind == "id":
            parts.append("ids")
        elif kind == "features":
            parts.append("features")
        else:
            parts.append(run.encoder_tuning(encoder))
    return " + ".join(dict.fromkeys(parts))


def epoch_seconds(run: Run) -> EpochSeconds:
    """Return how long epochs took."""
    # Records of earlier versions have only the number of all users.
    users = run.info.get("users_per_epoch") or run.dataset.get("counts", {}).get("users", 0)

    def seconds_per_epoch(part: _Part) -> float | None:
        speed = part.line.get("speed/users_per_s")
        return users / speed if speed else None

    return _over_epochs(run, seconds_per_epoch)


def epoch_cpu_seconds(run: Run) -> EpochSeconds:
    """Return how much processor time epochs took on all ranks, without loader processes."""

    def seconds_per_epoch(part: _Part) -> float | None:
        seconds: float | None = part.line.get("speed/cpu_s")
        return seconds / part.epochs if seconds else None

    return _over_epochs(run, seconds_per_epoch)


class _Part(NamedTuple):
    """The steps of a log line."""

    line: dict[str, Any]
    epoch: int
    """Number of the epoch in which the last step is, from 1."""
    epochs: float
    """Number of steps, as a share of an epoch's."""


def _over_epochs(run: Run, seconds_per_epoch: Callable[[_Part], float | None]) -> EpochSeconds:
    """Average the speeds of log lines over each epoch."""
    weights: dict[int, float] = {}
    sums: dict[int, float] = {}
    for part in _parts(run):
        seconds = seconds_per_epoch(part)
        if seconds is not None:
            weights[part.epoch] = weights.get(part.epoch, 0.0) + part.epochs
            sums[part.epoch] = sums.get(part.epoch, 0.0) + part.epochs * seconds
    means = {epoch: sums[epoch] / weight for epoch, weight in weights.items()}
    later = [seconds for epoch, seconds in means.items() if epoch > 1]
    return EpochSeconds(means.get(1), median(later) if later else None)


def _parts(run: Run) -> Iterator[_Part]:
    """Yield the logged parts of a training that lie within the first epoch or after it."""
    began = 0.0
    for line in run.metrics:
        ended = line.get("train/epoch")
        if not ended or ended <= began:
            continue
        # Epoch 3 ends at 3.0, with a margin for rounding.
        epoch = math.ceil(ended - 1e-9)
        is_first = epoch == 1
        if is_first or began > 1 - 1e-9:
            yield _Part(line, epoch, ended - began)
        began = ended


def _mean_seconds(seconds: Sequence[EpochSeconds]) -> EpochSeconds:
    return EpochSeconds(
        first=_mean([one.first for one in seconds]),
        later=_mean([one.later for one in seconds]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def cost_lines(runs: Sequence[Run]) -> list[CostLine]:
    """Return one line per run with results, and one for all runs that differ only in their seed."""
    return [CostLine(line.name, line.runs, line.seeds) for line in lines_of(runs)]


def cost_table(runs: Sequence[Run]) -> Table:
    """Return what each run cost and reached, from few trained parameters to many.

    Without lines if no run logged its speed.
    """
    lines = [line for line in cost_lines(runs) if line.epoch_s != (None, None)]
    lines.sort(key=lambda line: line.trained or 0)
    rows = []
    for line in lines:
        cells = (
            line.tuning,
            NONE if line.trained is None else count_in_words(line.trained),
            _seconds(line.epoch_s.first),
            _seconds(line.epoch_s.later),
            _seconds(line.epoch_cpu_s.first),
            _seconds(line.epoch_cpu_s.later),
            NONE if line.peak_bytes is None else rounded_size(line.peak_bytes),
            _metric(line.metric("hr@10")),
            _metric(line.metric("ndcg@10")),
            _metric(line.metric("hr@10", "cold")),
        )
        rows.append(Row(line.name, cells))
    header = (
        "tuning",
        "trained",
        "s, epoch 1",
        "s, later",
        "CPU s, epoch 1",
        "CPU s, later",
        "peak memory",
        "HR@10",
        "NDCG@10",
        "HR@10, cold",
    )
    seconds = (
        "Seconds are those of training alone, without rankings and checkpoints, and CPU seconds "
        "those of all ranks, without loader processes. Later epochs count by their median."
    )
    small = frozenset({len(header) - 1}) if is_small(lines, "cold") else frozenset()
    notes = ["± as in the results." if uncertainty_note(lines) else ""]
    notes += [small_note(["cold"] if small else []), seconds]
    if any(None in (*line.epoch_s, *line.epoch_cpu_s) for line in lines):
        notes.append(f"Seconds are {NONE} where no line was logged within such an epoch.")
    note = " ".join(filter(None, notes))
    return Table("run", header, tuple(rows), small=small, note=note)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:,.1f}"


def _metric(spread: Spread | None) -> str:
    return NONE if spread is None else spread.in_words()
