"""The metrics of full ranking by name: "hr@10", "ndcg@10", "mrr"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

DEFAULT_CUTOFFS = (10, 20)
"""Cut-offs of the paper's tables."""
MAIN_CUTOFF = 10
FINAL_PREFIXES = {"test": "test/", "validation": "best_validation/"}
"""Start of the logged names of the ranking at the end of training, by evaluate.final_split.

"validation/" is the start of those during training, which may be of a sample of users.
"""
MAX_CUTOFFS = 100
"""Limit for settings and for files from elsewhere; each cut-off is a pass over all users."""

_WITH_CUTOFF = re.compile(r"(?:hr|ndcg)@([1-9][0-9]{0,9})")


def metric_names(cutoffs: Sequence[int] = DEFAULT_CUTOFFS) -> tuple[str, ...]:
    """Return the names of the metrics: HR and NDCG at each cut-off, and MRR."""
    hit_rates = [f"hr@{cutoff}" for cutoff in cutoffs]
    gains = [f"ndcg@{cutoff}" for cutoff in cutoffs]
    return (*hit_rates, *gains, "mrr")


def cutoffs_of(names: Iterable[str]) -> tuple[int, ...]:
    """Return the cut-offs that occur in names of metrics, ascending; other names are ignored."""
    cutoffs = set()
    for name in names:
        match = _WITH_CUTOFF.fullmatch(name)
        if match is not None:
            cutoffs.add(int(match[1]))
    return tuple(sorted(cutoffs))


def main_cutoff(cutoffs: Sequence[int]) -> int:
    """Return the cut-off for places that have room for one: 10, or else the smallest."""
    return MAIN_CUTOFF if MAIN_CUTOFF in cutoffs or not cutoffs else min(cutoffs)
