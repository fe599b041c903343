"""Two runs beside each other, user by user: is the difference more than chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from mlrec.answers import add_json, print_json
from mlrec.arguments import Parser
from mlrec.metrics import METRICS, standard_error, user_metrics
from mlrec.record import trained_on
from mlrec.results import read_ranks, read_results
from mlrec.run_files import RANKS_FILE, RESULTS_FILE, run_names
from mlrec.terminal import console


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
    for key in ("split", "fingerprint", "users"):
        one, other = (getattr(ranking, key) for ranking in ranked)
        if one != other:
            raise ValueError(
                f"{first} ranked {key} {one!r}, {second} {other!r}; compare runs of one data set and split: "
                "mlrec evaluate RUN --split ranks again"
            )
    return [_compare(metric, *(ranking.metrics[metric] for ranking in ranked)) for metric in METRICS]


@dataclass(frozen=True)
class _Ranking:
    split: str
    fingerprint: str
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
    return _Ranking(results.split, results.fingerprint or trained_on(run), len(ranks_B2), metrics)


def _compare(metric: str, first_B: np.ndarray, second_B: np.ndarray) -> Comparison:
    difference_B = second_B - first_B
    difference, error = float(difference_B.mean()), standard_error(difference_B)
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else float(difference == 0)
    means = (float(values.mean()) for values in (first_B, second_B))
    errors = (standard_error(values) for values in (first_B, second_B))
    (first, second), (first_error, second_error) = means, errors
    return Comparison(metric, first, first_error, second, second_error, difference, error, p)


def main(arguments: Sequence[str]) -> None:
    """Compares: RUN RUN [--json]."""
    parser = Parser(prog="mlrec compare", description="Is the difference of two runs more than chance?")
    for place in ("first", "second"):
        parser.add_argument(place, type=Path, metavar="RUN")
    add_json(parser)
    parsed = parser.parse_args(arguments)
    rows = compare(parsed.first, parsed.second)
    if parsed.json:
        print_json({"first": str(parsed.first), "second": str(parsed.second), "metrics": [asdict(row) for row in rows]})
        return
    table = Table("metric", *run_names([parsed.first, parsed.second]), "difference", "p")
    for row in rows:
        table.add_row(
            row.metric,
            f"{row.first:.4f} ± {row.first_error:.4f}",
            f"{row.second:.4f} ± {row.second_error:.4f}",
            f"{row.difference:+.4f} ± {row.difference_error:.4f}",
            f"{row.p:.2g}",
        )
    console().print(table)
