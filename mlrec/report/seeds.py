"""Runs that differ only in their seed: the mean and the standard deviation of their metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np

from mlrec.report.runs import Run
from mlrec.report.wording import with_error
from mlrec.runtime.printable import counted

# Where a run is and how it is drawn, not what it computes. The data set is compared by its
# fingerprint instead, so that it may move.
_OWN_KEYS = ("name", "run_dir", "seed", "resume", "data")
_SEED_SUFFIX = re.compile(r"[_-]?seed[_-]?[0-9]+$")


class Spread(NamedTuple):
    """A metric of a run, or of runs that differ only in their seed, with its uncertainty."""

    mean: float
    deviation: float
    """Sample standard deviation over the seeds, or standard error over the users of a single run.

    NaN if unknown.
    """

    def in_words(self) -> str:
        """Return both with four decimals."""
        return with_error(self.mean, None if math.isnan(self.deviation) else self.deviation)


@dataclass(frozen=True)
class SeedGroup:
    """Two or more runs with results that differ only in their seed."""

    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """Name of the first run without its seed."""
        return _SEED_SUFFIX.sub("", self.runs[0].name)

    @property
    def title(self) -> str:
        """Name of the group's line in a table."""
        return f"{self.name}, mean of {counted(len(self.runs), 'seed')}"

    def spread(self, metric: str, group: str = "all") -> Spread | None:
        """Return a metric for a popularity group; None if a run lacks it."""
        values = []
        for run in self.runs:
            value = run.metric(metric, group)
            if value is None:
                return None
            values.append(value)
        return Spread(mean(values), stdev(values))


@dataclass(frozen=True)
class Line:
    """A ranked run, or all ranked runs that differ only in their seed."""

    name: str
    runs: tuple[Run, ...]
    seeds: SeedGroup | None = None

    @property
    def short_name(self) -> str:
        """Name without the number of seeds."""
        return self.name if self.seeds is None else self.seeds.name

    def metric(self, name: str, group: str = "all") -> Spread | None:
        """Return a metric for a popularity group."""
        if self.seeds is not None:
            return self.seeds.spread(name, group)
        value = self.runs[0].metric(name, group)
        error = self.runs[0].error(name, group)
        return None if value is None else Spread(value, math.nan if error is None else error)

    def values(self, metric: str, group: str = "all") -> np.ndarray | None:
        """Return a metric of each user in a group, as mean over the seeds; None if unknown."""
        by_seed: list[np.ndarray] = []
        for run in self.runs:
            values_B = None if run.users is None else run.users.values(metric, group)
            # seeds share a data set and a split, but may have ranked other users of it
            if values_B is None or (by_seed and len(values_B) != len(by_seed[0])):
                return None
            by_seed.append(values_B)
        mean_B: np.ndarray = np.mean(by_seed, axis=0)
        return mean_B


def lines_of(runs: Sequence[Run]) -> list[Line]:
    """Return one line per ranked run, and one for all that differ only in their seed."""
    group_of = seed_group_by_run(runs)
    lines: dict[str, Line] = {}
    for run in runs:
        seeds = group_of.get(run.name)
        if seeds is not None:
            lines[seeds.title] = Line(seeds.title, seeds.runs, seeds)
        elif run.results:
            lines[run.name] = Line(run.name, (run,))
    return list(lines.values())


def seed_group_by_run(runs: Sequence[Run]) -> dict[str, SeedGroup]:
    """Return the group of each run that differs from others only in its seed, by the run's name."""
    return {run.name: group for group in seed_groups(runs) for run in group.runs}


def seed_groups(runs: Sequence[Run]) -> list[SeedGroup]:
    """Return the groups of ranked runs that differ only in their seed, in the order of the runs.

    Runs with the same settings and the same seed are one run ranked twice, and count once.
    """
    by_settings: dict[str, dict[object, Run]] = {}
    for run in runs:
        if run.results:
            run_of_seed = by_settings.setdefault(_settings(run), {})
            run_of_seed.setdefault(run.config.get("seed"), run)
    groups = []
    for run_of_seed in by_settings.values():
        if len(run_of_seed) > 1:
            groups.append(SeedGroup(tuple(run_of_seed.values())))
    return groups


def _settings(run: Run) -> str:
    """Return what must agree within a group: settings, data set and split."""
    settings = {key: value for key, value in run.config.items() if key not in _OWN_KEYS}
    return repr((settings, run.fingerprint, run.results.get("split")))
