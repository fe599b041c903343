"""Two runs beside each other, user by user: is the difference more than chance?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrec.config.run_files import RANKS_FILE, RESULTS_FILE
from mlrec.evaluation.metrics import METRICS, standard_error, user_metrics
from mlrec.evaluation.results import read_ranks, read_results
from mlrec.runs.record import read_record, trained_on
from mlrec.runtime.printable import printable
from mlrec.runtime.redact import scrub


@dataclass(frozen=True)
class Comparison:
    """One metric of two runs on the same users; standard errors are over the users."""

    metric: str
    first: float
    first_error: float
    second: float
    second_error: float
    difference: float
    """Second minus first."""
    difference_error: float
    p: float
    """Two-sided, of the paired differences' mean being 0, by the normal approximation of the paired t-test."""


def compare(first: Path, second: Path) -> list[Comparison]:
    """Compares the last full rankings of two runs.

    Raises:
        ValueError: a run has none or a damaged one, or they are of other users, another split or another data set.
    """
    ranked = [_read(run) for run in (first, second)]
    one, other = ranked
    if one.fingerprint != other.fingerprint:
        raise ValueError(
            f"{first} ranked {one.dataset}, {second} ranked {other.dataset}. Runs are compared user by user, so both must be "
            "trained and ranked on one data set"
        )
    if one.split != other.split:
        raise ValueError(
            f"{first} ranked the {one.split} split, {second} the {other.split} split. Rank one of them again: "
            f"mlrec evaluate {second} --split {one.split}"
        )
    if one.users != other.users:
        raise ValueError(
            f"{first} ranked {one.users:,} users, {second} {other.users:,}, of one data set and split. Rank both again with "
            "mlrec evaluate RUN"
        )
    return [
        _compare(metric, *(ranking.metrics[metric] for ranking in ranked)) for metric in METRICS
    ]


@dataclass(frozen=True)
class _Ranking:
    split: str
    fingerprint: str
    """Of the data set."""
    dataset: str
    """Its name, URL and the beginning of the fingerprint, for people."""
    users: int
    metrics: dict[str, np.ndarray]
    """Each user's, float64 [B]."""


def _read(run: Path) -> _Ranking:
    for name in (RANKS_FILE, RESULTS_FILE):
        if not (run / name).exists():
            raise ValueError(f"{run} has no {name}; mlrec evaluate {run} writes it")
    results = read_results(run)
    assert results is not None
    ranks_B2 = read_ranks(run, results)
    metrics = user_metrics(ranks_B2[:, 0], ranks_B2[:, 1], results.catalogue_size)
    fingerprint = results.fingerprint or trained_on(run)
    return _Ranking(
        results.split, fingerprint, _described(run, fingerprint), len(ranks_B2), metrics
    )


def _described(run: Path, fingerprint: str) -> str:
    """Return how people know a data set; run.json names only the one of the training."""
    words = f"the data set {fingerprint[:12] or 'of an unknown fingerprint'}"
    recorded = (read_record(run) or {}).get("dataset", {})
    if not recorded or recorded.get("fingerprint") != fingerprint:
        return words
    return f"{words} ({printable(recorded.get('name', ''))} at {scrub(printable(recorded.get('url', '')))})"


def _compare(metric: str, first_B: np.ndarray, second_B: np.ndarray) -> Comparison:
    difference_B = second_B - first_B
    difference, error = float(difference_B.mean()), standard_error(difference_B)
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else float(difference == 0)
    means = (float(values.mean()) for values in (first_B, second_B))
    errors = (standard_error(values) for values in (first_B, second_B))
    (first, second), (first_error, second_error) = means, errors
    return Comparison(metric, first, first_error, second, second_error, difference, error, p)
