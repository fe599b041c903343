"""A run's last full ranking: the metrics in results.json, and the ranks in ranks.npy."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from mlrec import storage
from mlrec.config.metric_names import DEFAULT_CUTOFFS, MAX_CUTOFFS, cutoffs_of, metric_names
from mlrec.config.run_files import RANKS_FILE, RESULTS_FILE
from mlrec.evaluation.metrics import members, user_metrics
from mlrec.storage.npy import npy_bytes, read_npy
from mlrec.storage.typed_json import STRICT, parse_json, read_bounded

MAX_RESULTS_BYTES = 64 << 20
"""Limit of results.json. A million unreadable items with their reasons fit."""
MAX_USERS = 1 << 31
MAX_ITEMS = 1 << 31

Summary = dict[str, dict[str, float]]
"""By group of users ("all", "cold", "1-5", ...): number of users, and mean of each metric."""


class TargetRanks(NamedTuple):
    """The rank of each user's target: the columns of ranks.npy."""

    better_B: np.ndarray
    """Items with a higher score than the target, int64."""
    tied_B: np.ndarray
    """Other items with the target's score, int64."""
    popularity_B: np.ndarray | None = None
    """Training interactions of the target, int64; None in files of earlier versions."""


@dataclass(frozen=True)
class Results:
    """The content of results.json."""

    __pydantic_config__ = STRICT

    split: Literal["validation", "test"]
    step: Annotated[int, Field(ge=0)]
    """Step of the checkpoint."""
    selected_by: str
    """The metric that chose this checkpoint."""
    metrics: Summary
    baselines: dict[str, Summary]
    """Metrics of the "popularity", "chance" and, on synthetic data, "oracle" rankings."""
    bad_items: dict[int, str] = field(default_factory=dict)
    """Unreadable items, with the reason."""
    catalogue_size: Annotated[int, Field(ge=0, le=MAX_ITEMS)] = 0
    """Number of ranked items.

    0 in results of earlier versions, which cannot be compared user by user.
    """
    fingerprint: str = ""
    """Fingerprint of the ranked data set.

    Empty in results of earlier versions, which ranked the data set of the training.
    """

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """Cut-offs of the metrics, ascending."""
        return cutoffs_of(self.metrics["all"]) or DEFAULT_CUTOFFS

    def __post_init__(self) -> None:
        if "all" not in self.metrics:
            raise ValueError("metrics has no group 'all'")
        for summary in (self.metrics, *self.baselines.values()):
            for values in summary.values():
                # Numbers that were read from JSON are floats, and this one is a count.
                users = values.get("users")
                if users is not None and float(users).is_integer():
                    values["users"] = int(users)
        # The limit on the size of ranks.npy is computed from this number.
        if not 0 <= self.metrics["all"].get("users", 0) <= MAX_USERS:
            raise ValueError(f"metrics.all.users is {self.metrics['all']['users']}")
        if len(self.cutoffs) > MAX_CUTOFFS:
            raise ValueError(f"metrics.all has over {MAX_CUTOFFS} cut-offs")


def read_results(run: Path) -> Results | None:
    """Return the run's results.json, or None if it has none.

    Raises:
        ValueError: the file is damaged.
    """
    path = run / RESULTS_FILE
    if not path.exists():
        return None
    raw = read_bounded(path, MAX_RESULTS_BYTES, _remedy(run))
    return parse_json(raw, Results, str(path), _remedy(run))


def read_ranks(run: Path, results: Results) -> TargetRanks:
    """Return the content of ranks.npy, which belongs to `results`.

    Raises:
        ValueError: the file is missing or damaged, or does not belong to these results.
    """
    path = run / RANKS_FILE
    users = int(results.metrics["all"].get("users", 0))
    # 24 bytes per user and the header. A longer file belongs to other results and is not read.
    raw = read_bounded(path, 24 * users + 4096, _remedy(run))
    try:
        columns_BC = read_npy(raw, np.int64, ndim=2)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. {_remedy(run)}.") from error
    # Files of earlier versions lack the third column.
    if columns_BC.shape not in ((users, 2), (users, 3)):
        raise ValueError(
            f"{path} has shape {list(columns_BC.shape)}, but {RESULTS_FILE} has {users} users. "
            f"{_remedy(run)}."
        )
    ranks = TargetRanks(*columns_BC.T)
    # In this order: the agreement check uses ranks as positions in a table of gains.
    _check_range(path, columns_BC, results.catalogue_size)
    _check_agreement(path, ranks, results)
    return ranks


def _check_range(path: Path, columns_BC: np.ndarray, catalogue_size: int) -> None:
    if not len(columns_BC):
        return
    ranks_B2 = columns_BC[:, :2]
    if ranks_B2.min() < 0 or ranks_B2.max() >= catalogue_size:
        raise ValueError(
            f"{path} has ranks outside the catalogue of {catalogue_size} items. "
            f"{_remedy(path.parent)}."
        )
    # The target is neither better than itself nor tied with itself, so the sum stays below.
    if ranks_B2.sum(axis=1).max() >= catalogue_size:
        raise ValueError(
            f"{path} has more better and tied items than the catalogue's {catalogue_size}. "
            f"{_remedy(path.parent)}."
        )
    if columns_BC.min() < 0:
        raise ValueError(f"{path} has a negative popularity. {_remedy(path.parent)}.")


def _check_agreement(path: Path, ranks: TargetRanks, results: Results) -> None:
    """Check that the ranks give the metrics of results.json.

    The files are written one after the other, so a crash can leave them from two rankings.
    """
    stated_metrics = results.metrics["all"]
    names = metric_names(results.cutoffs)
    per_user = user_metrics(ranks.better_B, ranks.tied_B, results.catalogue_size, names)
    for name, values_B in per_user.items():
        if not len(values_B) or name not in stated_metrics:
            continue
        mean = values_B.mean()
        # Not to the last bit, because another version of numpy may sum in another order.
        if not math.isclose(stated_metrics[name], mean, rel_tol=1e-6, abs_tol=1e-9):
            raise ValueError(
                f"{path} gives {name} {mean:.6f}, but {RESULTS_FILE} has "
                f"{stated_metrics[name]:.6f}. {_remedy(path.parent)}."
            )
    for group, is_member_B in members(ranks.popularity_B).items():
        stated_users = results.metrics.get(group, {}).get("users")
        if stated_users is not None and stated_users != is_member_B.sum():
            raise ValueError(
                f"{path} has {is_member_B.sum():,} users in group {group!r}, but {RESULTS_FILE} "
                f"has {stated_users:,}. {_remedy(path.parent)}."
            )


def write_results(run: Path, results: Results, ranks: TargetRanks) -> None:
    """Write ranks.npy, then results.json, each complete or not at all."""
    columns_BC = np.stack([column_B for column_B in ranks if column_B is not None], axis=1)
    # A crash between the writes leaves older results, and read_ranks reports that they disagree.
    storage.write_bytes(str(run / RANKS_FILE), npy_bytes(columns_BC))
    content = json.dumps(asdict(results), indent=1, allow_nan=False) + "\n"
    storage.write_bytes(str(run / RESULTS_FILE), content.encode())


def _remedy(run: Path) -> str:
    return f"mlrec evaluate {shlex.quote(str(run))} writes {RESULTS_FILE} and {RANKS_FILE} again"
