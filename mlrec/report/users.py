"""A run's results user by user: what standard errors and paired tests are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrec.config.metric_names import metric_names
from mlrec.config.run_files import RANKS_FILE
from mlrec.evaluation.metrics import members, standard_error, user_metrics
from mlrec.evaluation.results import Results, TargetRanks, read_ranks


@dataclass(frozen=True)
class UserResults:
    """The rank of each user's target in a run's last full ranking."""

    ranks: TargetRanks
    catalogue_size: int
    cutoffs: tuple[int, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """ "all", and the popularity groups whose users are known."""
        return ("all", *members(self.ranks.popularity_B))

    def values(self, metric: str, group: str = "all") -> np.ndarray | None:
        """Return a metric of each user in a popularity group, float64; None if unknown."""
        if metric not in metric_names(self.cutoffs):
            return None
        ranks = self.ranks
        by_name = user_metrics(ranks.better_B, ranks.tied_B, self.catalogue_size, [metric])
        values_B = by_name[metric]
        if group == "all":
            return values_B
        is_member_B = members(ranks.popularity_B).get(group)
        return None if is_member_B is None else values_B[is_member_B]

    def error(self, metric: str, group: str = "all") -> float | None:
        """Return the standard error of a metric over the users of a group; None if unknown."""
        values = self.values(metric, group)
        # a single user has no spread, and an error of 0 would look exact
        return None if values is None or len(values) < 2 else standard_error(values)


def read_user_results(path: Path, results: Results) -> UserResults | None:
    """Return the results of each user; None if the run in folder `path` has none.

    Raises:
        ValueError: ranks.npy is damaged.
    """
    if not (path / RANKS_FILE).exists() or not results.catalogue_size:
        return None
    return UserResults(read_ranks(path, results), results.catalogue_size, results.cutoffs)
