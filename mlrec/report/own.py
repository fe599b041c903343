"""Our runs as they are compared with published figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlrec.report.published import COUNTS, DATASET, Figure
from mlrec.report.runs import Run
from mlrec.report.seeds import SeedGroup, seed_group_by_run


@dataclass(frozen=True)
class Own:
    """A run of ours, or runs that differ only in their seed."""

    name: str
    run: Run
    """The run, or the first of them: all have the same settings and data set."""
    seeds: SeedGroup | None = None

    @property
    def names(self) -> list[str]:
        """Names of the runs."""
        return [self.run.name] if self.seeds is None else [run.name for run in self.seeds.runs]

    def figure(self, metric: str) -> Figure | None:
        """Return a metric of the test split; None without results.

        Its error is the standard error over the users, or the standard deviation over the seeds.
        """
        if not is_ranked(self.run):
            return None
        if self.seeds is not None:
            spread = self.seeds.spread(metric)
            return None if spread is None else Figure(spread.mean, spread.deviation)
        value = self.run.metric(metric)
        return None if value is None else Figure(value, self.run.error(metric))


def owns(runs: Sequence[Run]) -> list[Own]:
    """Return our runs, with those that differ only in their seed as one."""
    group_of = seed_group_by_run(runs)
    distinct: dict[str, Own] = {}
    for run in runs:
        seeds = group_of.get(run.name)
        name = run.name if seeds is None else seeds.title
        distinct.setdefault(name, Own(name, run, seeds))
    return list(distinct.values())


def dataset_of(run: Run) -> str:
    """Return the paper's data set, or the name and the size of another."""
    dataset = run.dataset
    counts = dataset.get("counts", {})
    # Whoever packed it chose the name, so the paper's data set is known by its size. The paper's
    # targets are those of leave-one-out.
    has_size = all(counts.get(name) == count for name, count in COUNTS.items())
    if has_size and not run.is_split_by_time:
        return DATASET
    parts = [str(dataset.get("name", "unknown"))]
    for name in COUNTS:
        if name in counts:
            parts.append(f"{counts[name]:,} {name}")
    if run.is_split_by_time:
        parts.append("split by time")
    return ", ".join(parts)


def is_ranked(run: Run) -> bool:
    """Tell whether a run has results of the test split."""
    return run.results.get("split") == "test"
