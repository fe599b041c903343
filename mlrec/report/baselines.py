"""Metrics of the baselines that every evaluation ranks next to the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlrec.report.runs import Run

BASELINES = ("popularity", "chance", "oracle")


def baseline(runs: Sequence[Run], name: str, metric: str = "hr@10") -> float | None:
    """Return a metric of a baseline, from the first run whose results have it."""
    source = with_baseline(runs, name)
    return None if source is None else source.baseline(name, metric)


def with_baseline(runs: Iterable[Run], name: str) -> Run | None:
    """Return the first run whose results include a baseline."""
    for run in runs:
        if run.results.get("baselines", {}).get(name):
            return run
    return None
