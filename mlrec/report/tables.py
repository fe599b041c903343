"""The report's tables, as text cells for Markdown, HTML and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlrec.report.runs import Run, flat, metrics_of
from mlrec.report.seeds import SeedGroup, seed_groups
from mlrec.report.wording import (
    NONE,
    counts_in_words,
    duration,
    number,
    parameters_in_words,
    ratio,
    share,
    with_error,
)

BASELINES = ("popularity", "chance", "oracle")


@dataclass(frozen=True)
class Row:
    """One line of a table: its name and its cells."""

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()
    """Columns in which this run is the best of several."""
    is_run: bool = True
    """Whether the line is about a run, not about a baseline or a fact."""


@dataclass(frozen=True)
class Table:
    """Cells below a header; the first column holds the names of the rows."""

    corner: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    is_numeric: bool = True
    """Whether the cells are figures, aligned to the right, or words."""

    def transposed(self) -> Table:
        """Return the table with rows as columns."""
        columns = zip(*(row.cells for row in self.rows), strict=True)
        rows = tuple(Row(name, cells) for name, cells in zip(self.header, columns, strict=True))
        header = tuple(row.name for row in self.rows)
        return Table(self.corner, header, rows, self.is_numeric)


def groups_by_dataset(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs with the same data set and ranked split, because they share baselines.

    A run without results joins the first run of its data set that has some.
    """
    # reversed, so that the first run of a data set wins
    first_split = {}
    for run in reversed(runs):
        if run.results:
            first_split[_fingerprint(run)] = splits([run])
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        split = splits([run]) if run.results else first_split.get(_fingerprint(run), "")
        groups.setdefault((_fingerprint(run), split), []).append(run)
    return list(groups.values())


def group_names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Return names that tell the groups apart: data set and split; "" for a single group.

    The fingerprint follows where several data sets have the same name.
    """
    if len(groups) < 2:
        return [""] * len(groups)
    fingerprints: dict[str, set[str]] = {}
    for group in groups:
        fingerprints.setdefault(_dataset(group[0]), set()).add(_fingerprint(group[0]))
    names = []
    for group in groups:
        dataset = _dataset(group[0])
        if len(fingerprints[dataset]) > 1:
            dataset = f"{dataset} {_fingerprint(group[0])[:12]}"
        names.append(f"{dataset}, {splits(group)} split")
    return names


def headed(heading: str, group_name: str) -> str:
    """Return the heading of a section about one group."""
    return f"{heading}: {group_name}" if group_name else heading


def _dataset(run: Run) -> str:
    name = str(run.dataset.get("name", "unknown data set"))
    return f"{name}, split by time" if run.is_split_by_time else name


def _fingerprint(run: Run) -> str:
    return run.fingerprint or NONE


def results_table(runs: Sequence[Run]) -> Table:
    """Return the metrics of runs with the same data set and split, with the baselines below.

    HR@10 is followed by its ratio to popularity and its share of the oracle. Runs that differ only
    in their seed have a line of their own each, and one for their mean and standard deviation.
    """
    popularity = _baseline(runs, "popularity")
    oracle = _baseline(runs, "oracle")
    others = [name for name in metrics_of(runs) if name != "hr@10"]

    def cells(
        value: Callable[[str], float | None],
        error: Callable[[str], float | None] = lambda _: None,
    ) -> tuple[str, ...]:
        hit_rate = value("hr@10")
        relative = (ratio(hit_rate, popularity), share(hit_rate, oracle))
        first, *rest = (with_error(value(name), error(name)) for name in ("hr@10", *others))
        return (first, *relative, *rest)

    # the two relative columns follow HR@10 and mark no best run, because HR@10 does
    columns = [[run.metric("hr@10") for run in runs], [], []]
    columns += [[run.metric(name) for run in runs] for name in others]
    rows = [
        Row(run.name, cells(run.metric, run.error), _best(columns, i)) for i, run in enumerate(runs)
    ]
    for group in seed_groups(runs):
        hit_rate = group.spread("hr@10")
        middle = None if hit_rate is None else hit_rate.mean
        relative = (ratio(middle, popularity), share(middle, oracle))
        first, *rest = (_spread(group, name) for name in ("hr@10", *others))
        rows.append(Row(group.title, (first, *relative, *rest)))
    for name in BASELINES:
        source = _with_baseline(runs, name)
        if source is not None:
            rows.append(Row(name, cells(partial(source.baseline, name)), is_run=False))
    header = ("HR@10", "× popularity", "% of oracle", *map(str.upper, others))
    return Table(f"{splits(runs)} split, all users", header, tuple(rows))


def popularity_table(runs: Sequence[Run], metric: str = "hr@10") -> Table:
    """Return a metric by popularity group of the target, cold items first."""
    groups = popularity_groups(runs)
    columns = [[run.metric(metric, group) for run in runs] for group in groups]
    rows = []
    for i, run in enumerate(runs):
        errors = [run.error(metric, group) for group in groups]
        values = [column[i] for column in columns]
        cells = tuple(map(with_error, values, errors))
        rows.append(Row(run.name, cells, _best(columns, i)))
    for seeds in seed_groups(runs):
        rows.append(Row(seeds.title, tuple(_spread(seeds, metric, group) for group in groups)))
    source = _with_baseline(runs, "popularity")
    if source is not None:
        values = [source.baseline("popularity", metric, group) for group in groups]
        rows.append(Row("popularity", tuple(map(number, values)), is_run=False))
    rows.append(Row("users", tuple(_users(runs, group) for group in groups), is_run=False))
    return Table("training interactions of the target", tuple(groups), tuple(rows))


def _spread(seeds: SeedGroup, metric: str, group: str = "all") -> str:
    spread = seeds.spread(metric, group)
    return NONE if spread is None else spread.in_words()


def _users(runs: Sequence[Run], group: str) -> str:
    """Return how many users' targets are in a popularity group; all runs have the same users."""
    for run in runs:
        users = run.metric("users", group)
        if users is not None:
            return f"{users:,.0f}"
    return NONE


def popularity_groups(runs: Sequence[Run]) -> list[str]:
    """Return the popularity groups with results of any run, from cold to popular."""
    groups: set[str] = set()
    for run in runs:
        groups |= run.results.get("metrics", {}).keys() - {"all"}
    return sorted(groups, key=_fewest_interactions)


def _fewest_interactions(group: str) -> int:
    """Return the lower bound of a popularity group: "cold", "6-20" or ">100"."""
    if group == "cold":
        return 0
    if group.startswith(">"):
        return int(group[1:]) + 1
    return int(group.split("-")[0])


def facts_table(runs: Sequence[Run]) -> Table:
    """Return when, how long and on what each run ran, and how large it is."""
    facts: dict[str, Callable[[Run], Any]] = {
        "commit": lambda run: run.info.get("commit"),
        "started": lambda run: str(run.info.get("started", NONE))[:16].replace("T", " "),
        "duration": lambda run: duration(run.info.get("hours")),
        "processes": lambda run: run.info.get("world"),
        "hardware": lambda run: run.info.get("hardware"),
        "parameters": lambda run: parameters_in_words(run.info.get("parameters", {})),
        "data set": lambda run: _dataset(run) if run.dataset else None,
        "data set at": lambda run: run.dataset.get("url"),
        "data set holds": lambda run: counts_in_words(run.dataset.get("counts", {})),
        "fingerprint": lambda run: _fingerprint(run)[:12],
        "versions": lambda run: _versions(run.info.get("versions", {})),
        "reported split": lambda run: run.results.get("split"),
        "reported step": lambda run: run.results.get("step"),
        "chosen by": lambda run: run.results.get("selected_by"),
    }
    rows = []
    for name, fact in facts.items():
        cells = tuple(str(fact(run) or NONE) for run in runs)
        rows.append(Row(name, cells, is_run=False))
    return Table("", tuple(run.name for run in runs), tuple(rows), is_numeric=False)


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(map(" ".join, versions.items()))


def differences_table(runs: Sequence[Run]) -> Table:
    """Return the keys of the configuration in which the runs differ."""
    # names differ in any case, and every run has a column under its name
    settings = [dict(flat(run.config)) for run in runs]
    keys: dict[str, None] = {}
    for settings_of_run in settings:
        keys |= dict.fromkeys(settings_of_run)
    rows = []
    for key in keys:
        cells = tuple(str(settings_of_run.get(key, NONE)) for settings_of_run in settings)
        if key != "name" and len(set(cells)) > 1:
            rows.append(Row(key, cells, is_run=False))
    return Table("key", tuple(run.name for run in runs), tuple(rows), is_numeric=False)


def headline(runs: Sequence[Run]) -> str:
    """Return a sentence about the best run of a data set and split; "" if none has results."""
    best_run = None
    best_value = 0.0
    for run in runs:
        value = run.metric("hr@10")
        if value is not None and (best_run is None or value > best_value):
            best_run, best_value = run, value
    if best_run is None:
        return ""
    sentence = (
        f"{best_run.name} reaches HR@10 {number(best_value)} on the {splits([best_run])} split"
    )
    comparisons = []
    popularity = _baseline(runs, "popularity")
    if popularity is not None:
        comparisons.append(f"{ratio(best_value, popularity)} popularity")
    oracle = _baseline(runs, "oracle")
    if oracle is not None:
        of_oracle = f"{share(best_value, oracle)} of the oracle"
        comparisons.append(f"{of_oracle}, the model that generated the data")
    if comparisons:
        sentence = f"{sentence}: {' and '.join(comparisons)}"
    return f"{sentence}."


def splits(runs: Sequence[Run]) -> str:
    """Return the splits that the runs were ranked on; "test" if none was ranked."""
    names = {str(run.results["split"]) for run in runs if "split" in run.results}
    return " and ".join(sorted(names)) or "test"


def _with_baseline(runs: Iterable[Run], name: str) -> Run | None:
    """Return the first run whose results include a baseline."""
    for run in runs:
        if run.results.get("baselines", {}).get(name):
            return run
    return None


def _baseline(runs: Sequence[Run], name: str, metric: str = "hr@10") -> float | None:
    source = _with_baseline(runs, name)
    return None if source is None else source.baseline(name, metric)


def _best(columns: Sequence[Sequence[float | None]], run: int) -> frozenset[int]:
    """Return the columns in which the run at index `run` is the best of two or more.

    A best value of 0 is not marked.
    """
    best = set()
    for index, column in enumerate(columns):
        values = [value for value in column if value is not None]
        if len(values) > 1 and column[run] == max(values) > 0:
            best.add(index)
    return frozenset(best)
