"""Which lines of a table lead a column, by a paired test over the users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mlrec.evaluation.compare import compare_users
from mlrec.report.seeds import Line
from mlrec.report.wording import BOLD, TIED

MIN_USERS = 50
"""Groups with fewer users are shown in grey: too small to tell runs apart."""
MAX_P = 0.05
"""Differences with a smaller p-value are significant."""
OVER_USERS = "standard error over users"
OVER_SEEDS = "standard deviation over seeds"


class Leaders(NamedTuple):
    """The leading lines of a column, by name."""

    best: str = ""
    """The line that is significantly better than every other; empty if there is none."""
    tied: frozenset[str] = frozenset()
    """The highest line and those that do not differ significantly from it, if there are any."""


def leaders(lines: Sequence[Line], metric: str, group: str = "all") -> Leaders:
    """Return the leading lines of a metric for a popularity group.

    There are none in a group of fewer than MIN_USERS users, and if no line is above 0.
    """
    means: dict[str, float] = {}
    line_of: dict[str, Line] = {}
    for line in lines:
        spread = line.metric(metric, group)
        if spread is not None:
            means[line.name] = spread.mean
            line_of[line.name] = line
    if len(means) < 2 or is_small(lines, group):
        return Leaders()
    highest = max(means, key=lambda name: means[name])
    highest_B = line_of.pop(highest).values(metric, group)
    if highest_B is None or means[highest] <= 0:
        return Leaders()
    tied = set()
    untested = 0
    for name, line in line_of.items():
        values_B = line.values(metric, group)
        # runs with other users cannot be compared user by user
        if values_B is None or len(values_B) != len(highest_B):
            untested += 1
        elif compare_users(metric, values_B, highest_B).p >= MAX_P:
            tied.add(name)
    if tied:
        return Leaders(tied=frozenset({highest, *tied}))
    return Leaders() if untested else Leaders(best=highest)


def is_small(lines: Sequence[Line], group: str) -> bool:
    """Tell whether a popularity group has fewer than MIN_USERS users."""
    for line in lines:
        users = line.runs[0].metric("users", group)
        if users is not None:
            return users < MIN_USERS
    return False


def uncertainty_note(lines: Sequence[Line]) -> str:
    """Return what ± and the marks of a table mean; "" for a table without either."""
    sentences = []
    has_errors = any(run.users is not None for line in lines for run in line.runs)
    has_seeds = any(line.seeds is not None for line in lines)
    if has_errors and has_seeds:
        sentences.append(f"±: {OVER_USERS}, for a mean of seeds the {OVER_SEEDS}.")
    elif has_errors or has_seeds:
        sentences.append(f"±: {OVER_USERS if has_errors else OVER_SEEDS}.")
    num_tested = sum(line.values("hr@10") is not None for line in lines)
    if num_tested > 1:
        sentences.append(
            f"{BOLD}: significantly better than every other run. "
            f"{TIED}: the highest value and those not significantly different from it. "
            f"Paired test over users, p < {MAX_P:g}, not corrected for several comparisons."
        )
    return " ".join(sentences)


def small_note(groups: Sequence[str]) -> str:
    """Return why columns of groups have no marks; "" for no groups."""
    if not groups:
        return ""
    return f"Fewer than {MIN_USERS} users, too few to test: {', '.join(groups)}."
