"""Compare two runs user by user: is their difference more than chance?"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrec import storage
from mlrec.config.metric_names import metric_names
from mlrec.config.run_files import CONFIG_FILE, RANKS_FILE, RESULTS_FILE, RUN_REMEDY
from mlrec.evaluation.metrics import standard_error, user_metrics
from mlrec.evaluation.results import TargetRanks, read_ranks, read_results
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
    """Two-sided p-value of a paired t-test, by its normal approximation."""


def compare(first: Path, second: Path) -> list[Comparison]:
    """Compare the last full rankings of two runs, at the cut-offs of both.

    Raises:
        ValueError: a run has no ranking or a damaged one, or the rankings differ in data set,
            split or users.
    """
    one = _read(first)
    other = _read(second)
    # Row n of both ranks.npy must be the same user and target, or the test would not be paired.
    if one.fingerprint != other.fingerprint:
        raise ValueError(
            f"{first} ranked {one.dataset}, {second} ranked {other.dataset}. Runs are compared "
            "user by user, so both must be trained and ranked on one data set"
        )
    if one.split != other.split:
        raise ValueError(
            f"{first} ranked the {one.split} split, {second} the {other.split} split. "
            f"Rank one of them again: mlrec evaluate {shlex.quote(str(second))} --split {one.split}"
        )
    if one.users != other.users:
        raise ValueError(
            f"{first} ranked {one.users:,} users, {second} {other.users:,}, of one data set and "
            "split. Rank both again with mlrec evaluate RUN"
        )
    # Ranks give the metrics at any cut-off, so runs with different cut-offs can be compared.
    metrics = metric_names(sorted({*one.cutoffs, *other.cutoffs}))
    return [compare_users(metric, one.metric(metric), other.metric(metric)) for metric in metrics]


@dataclass(frozen=True)
class _Ranking:
    """A run's last full ranking, with what must agree between two runs."""

    split: str
    fingerprint: str
    """Fingerprint of the ranked data set."""
    dataset: str
    """The data set in words, for messages."""
    users: int
    ranks: TargetRanks
    catalogue_size: int
    cutoffs: tuple[int, ...]

    def metric(self, name: str) -> np.ndarray:
        """Return a metric of each user, float64 [B]."""
        ranks = self.ranks
        return user_metrics(ranks.better_B, ranks.tied_B, self.catalogue_size, [name])[name]


def _read(run: Path) -> _Ranking:
    if not any((run / name).exists() for name in (CONFIG_FILE, RANKS_FILE, RESULTS_FILE)):
        raise ValueError(storage.why_absent(str(run), "a run", CONFIG_FILE, RUN_REMEDY))
    for name in (RANKS_FILE, RESULTS_FILE):
        if not (run / name).exists():
            raise ValueError(
                f"{run} has no {name}; mlrec evaluate {shlex.quote(str(run))} writes it"
            )
    results = read_results(run)
    assert results is not None
    ranks = read_ranks(run, results)
    fingerprint = results.fingerprint or trained_on(run)
    return _Ranking(
        split=results.split,
        fingerprint=fingerprint,
        dataset=_describe(run, fingerprint),
        users=len(ranks.better_B),
        ranks=ranks,
        catalogue_size=results.catalogue_size,
        cutoffs=results.cutoffs,
    )


def _describe(run: Path, fingerprint: str) -> str:
    """Return a data set in words: its fingerprint, and name and URL if the run knows them."""
    words = f"the data set {fingerprint[:12] or 'of an unknown fingerprint'}"
    # run.json names the data set of the training, which may not be the one that was ranked.
    recorded = (read_record(run) or {}).get("dataset", {})
    if not recorded or recorded.get("fingerprint") != fingerprint:
        return words
    name = printable(recorded.get("name", ""))
    url = scrub(printable(recorded.get("url", "")))
    return f"{words} ({name} at {url})"


def compare_users(metric: str, first_B: np.ndarray, second_B: np.ndarray) -> Comparison:
    """Compare a metric of the same users under two models, float64 [B] each."""
    # Paired per user: the spread between users, which both runs share, drops out.
    difference_B = second_B - first_B
    difference = float(difference_B.mean())
    difference_error = standard_error(difference_B)
    # Without spread there is no test statistic: equal runs give 1, a constant difference gives 0.
    if difference_error:
        p = math.erfc(abs(difference) / difference_error / math.sqrt(2))
    else:
        p = float(difference == 0)
    return Comparison(
        metric=metric,
        first=float(first_B.mean()),
        first_error=standard_error(first_B),
        second=float(second_B.mean()),
        second_error=standard_error(second_B),
        difference=difference,
        difference_error=difference_error,
        p=p,
    )
