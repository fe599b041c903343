"""The report's tables, as text cells that Markdown, HTML and the console render alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from mlrec.report.runs import Run, flat

NONE = "–"
BASELINES = ("popularity", "chance", "oracle")
METRICS = ("hr@10", "hr@20", "ndcg@10", "ndcg@20", "mrr")


@dataclass(frozen=True)
class Row:
    """One line of a table: its name and its cells."""

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()
    """Columns in which this run is the best of several."""
    is_run: bool = True
    """Whether it is a run's and not a baseline's or a fact's."""


@dataclass(frozen=True)
class Table:
    """Cells under a header; the first column holds the rows' names."""

    corner: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    is_numeric: bool = True
    """Whether the cells are figures, aligned right, and not words."""

    def transposed(self) -> Table:
        """Rows as columns."""
        columns = zip(*(row.cells for row in self.rows), strict=True)
        rows = (
            Row(name, cells, is_run=True) for name, cells in zip(self.header, columns, strict=True)
        )
        return Table(
            self.corner, tuple(row.name for row in self.rows), tuple(rows), self.is_numeric
        )


def groups_by_dataset(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, together where they share a data set and the ranked split, and so the baselines.

    A run without results stands with the first of its data set that has some.
    """
    first_split = {_fingerprint(run): splits([run]) for run in reversed(runs) if run.results}
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        split = splits([run]) if run.results else first_split.get(_fingerprint(run), "")
        groups.setdefault((_fingerprint(run), split), []).append(run)
    return list(groups.values())


def group_names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """What tells the groups apart: data set (with its fingerprint where others have its name) and split; "" for one group."""
    if len(groups) < 2:
        return [""] * len(groups)
    firsts = [group[0] for group in groups]
    prints: dict[str, set[str]] = {}
    for run in firsts:
        prints.setdefault(_dataset(run), set()).add(_fingerprint(run))
    shown = [
        _dataset(run) + (f" {_fingerprint(run)[:12]}" if len(prints[_dataset(run)]) > 1 else "")
        for run in firsts
    ]
    return [
        f"{dataset}, {splits(group)} split" for dataset, group in zip(shown, groups, strict=True)
    ]


def headed(heading: str, group_name: str) -> str:
    """The heading of a group's section."""
    return f"{heading}: {group_name}" if group_name else heading


def _dataset(run: Run) -> str:
    return str(run.info.get("dataset", {}).get("name", "unknown data set"))


def _fingerprint(run: Run) -> str:
    return run.fingerprint or NONE


def results_table(runs: Sequence[Run]) -> Table:
    """Metrics of the runs of one data set and split, and its baselines below; what they mean for HR@10 stands beside it."""

    def cells(value: Callable[[str], float | None]) -> tuple[str, ...]:
        hit_rate = value("hr@10")
        beside = (
            ratio(hit_rate, _baseline(runs, "popularity")),
            share(hit_rate, _baseline(runs, "oracle")),
        )
        first, *rest = (number(value(name)) for name in METRICS)
        return (first, *beside, *rest)

    columns = [[run.metric(name) for run in runs] for name in METRICS]
    columns[1:1] = [], []  # multiples and shares are not marked beside the value itself
    rows = [Row(run.name, cells(run.metric), _best(columns, i)) for i, run in enumerate(runs)]
    for name in BASELINES:
        if (source := _with_baseline(runs, name)) is not None:
            rows.append(Row(name, cells(partial(source.baseline, name)), is_run=False))
    header = ("HR@10", "× popularity", "% of oracle", "HR@20", "NDCG@10", "NDCG@20", "MRR")
    return Table(f"{splits(runs)} split, all users", header, tuple(rows))


def popularity_table(runs: Sequence[Run], metric: str = "hr@10") -> Table:
    """One metric by popularity group of the target, cold items first."""
    groups = popularity_groups(runs)
    columns = [[run.metric(metric, group) for run in runs] for group in groups]
    rows = [
        Row(run.name, tuple(number(column[i]) for column in columns), _best(columns, i))
        for i, run in enumerate(runs)
    ]
    if (source := _with_baseline(runs, "popularity")) is not None:
        values = [source.baseline("popularity", metric, group) for group in groups]
        rows.append(Row("popularity", tuple(map(number, values)), is_run=False))
    users = [
        next((n for run in runs if (n := run.metric("users", group)) is not None), None)
        for group in groups
    ]
    rows.append(
        Row("users", tuple(NONE if n is None else f"{n:,.0f}" for n in users), is_run=False)
    )
    return Table("training interactions of the target", tuple(groups), tuple(rows))


def popularity_groups(runs: Sequence[Run]) -> list[str]:
    """The popularity groups that any of the runs has results for, from cold to popular."""
    found = {group for run in runs for group in run.results.get("metrics", {}) if group != "all"}
    return sorted(
        found,
        key=lambda group: (
            -1 if group == "cold" else int(group.lstrip(">").split("-")[0]) + group.startswith(">")
        ),
    )


def speed_table(runs: Sequence[Run]) -> Table:
    """How fast the runs trained: medians of what they logged, the sum of the bytes, the peak of the memory."""
    aggregates: dict[str, tuple[str, Callable[[list[float]], str]]] = {
        "users/s": ("speed/users_per_s", lambda values: f"{median(values):,.0f}"),
        "videos/s": ("speed/videos_per_s", lambda values: f"{median(values):,.0f}"),
        "slots/video": ("speed/dedup", lambda values: f"{median(values):.1f}"),
        "data wait": ("speed/data_wait", lambda values: f"{median(values):.0%}"),
        "prefix hits": ("data/prefix_hits", lambda values: f"{median(values):.0%}"),
        "read": ("data/bytes_read", lambda values: megabytes(sum(values))),
        "from remote": ("data/remote_bytes", lambda values: megabytes(sum(values))),
        "peak memory": ("memory/peak_bytes", lambda values: megabytes(max(values))),
    }
    rows = []
    for run in runs:
        curves = {name: run.curve(metric)[1] for name, (metric, _) in aggregates.items()}
        if curves["users/s"]:
            cells = (
                form(curves[name]) if curves[name] else NONE
                for name, (_, form) in aggregates.items()
            )
            rows.append(Row(run.name, (*cells, duration(run.info.get("hours")))))
    return Table("medians over the logged steps", (*aggregates, "duration"), tuple(rows))


def facts_table(runs: Sequence[Run]) -> Table:
    """Where and how long each run ran, on what, and how large it is."""
    facts: dict[str, Callable[[Run], Any]] = {
        "commit": lambda run: run.info.get("commit"),
        "started": lambda run: str(run.info.get("started", NONE))[:16].replace("T", " "),
        "duration": lambda run: duration(run.info.get("hours")),
        "processes": lambda run: run.info.get("world"),
        "hardware": lambda run: run.info.get("hardware"),
        "parameters": lambda run: _parameters(run.info.get("parameters", {})),
        "data set": lambda run: run.info.get("dataset", {}).get("name"),
        "data set at": lambda run: run.info.get("dataset", {}).get("url"),
        "data set holds": lambda run: _counts(run.info.get("dataset", {}).get("counts", {})),
        "fingerprint": lambda run: _fingerprint(run)[:12],
        "versions": lambda run: ", ".join(
            f"{name} {version}" for name, version in run.info.get("versions", {}).items()
        ),
        "reported split": lambda run: run.results.get("split"),
        "reported step": lambda run: run.results.get("step"),
        "chosen by": lambda run: run.results.get("selected_by"),
    }
    rows = (
        Row(name, tuple(str(fact(run) or NONE) for run in runs), is_run=False)
        for name, fact in facts.items()
    )
    return Table("", tuple(run.name for run in runs), tuple(rows), is_numeric=False)


def differences_table(runs: Sequence[Run]) -> Table:
    """The keys of the configuration in which the runs differ."""
    leaves = [dict(flat(run.config)) for run in runs]
    keys = dict.fromkeys(key for leaf in leaves for key in leaf)
    values = {
        key: tuple(str(leaf.get(key, NONE)) for leaf in leaves) for key in keys if key != "name"
    }
    rows = (Row(key, cells, is_run=False) for key, cells in values.items() if len(set(cells)) > 1)
    return Table("key", tuple(run.name for run in runs), tuple(rows), is_numeric=False)


def headline(runs: Sequence[Run]) -> str:
    """One sentence about the best run of a data set and split; "" where none has results."""
    scored = [(value, run) for run in runs if (value := run.metric("hr@10")) is not None]
    if not scored:
        return ""
    value, run = max(scored, key=lambda pair: pair[0])
    parts = [f"{run.name} reaches HR@10 {number(value)} on the {splits([run])} split"]
    if (base := _baseline(runs, "popularity")) is not None:
        parts.append(f"{ratio(value, base)} popularity")
    if (base := _baseline(runs, "oracle")) is not None:
        parts.append(f"{share(value, base)} of the oracle, the model that generated the data")
    return (f"{parts[0]}: {' and '.join(parts[1:])}" if parts[1:] else parts[0]) + "."


def splits(runs: Sequence[Run]) -> str:
    """The split that the runs' results are of."""
    return (
        " and ".join(sorted({str(run.results["split"]) for run in runs if "split" in run.results}))
        or "test"
    )


def number(value: float | None) -> str:
    """A metric with four decimals."""
    return NONE if value is None else f"{value:.4f}"


def ratio(value: float | None, base: float | None) -> str:
    """A value in multiples of a baseline."""
    return NONE if value is None or not base else f"{value / base:.2f} ×"


def share(value: float | None, base: float | None) -> str:
    """A value in percent of a baseline."""
    return NONE if value is None or not base else f"{100 * value / base:.0f} %"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names with commas between; of many the first."""
    return (
        ", ".join(names)
        if len(names) <= most
        else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    )


def megabytes(size_bytes: float) -> str:
    """Bytes in MB, or in GB where that reads better."""
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e10 else f"{size_bytes / 1e6:,.0f} MB"


def duration(hours: float | None) -> str:
    """Hours in the unit that reads best."""
    if hours is None:
        return NONE
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _parameters(parameters: dict[str, int]) -> str:
    total, trained = parameters.get("total"), parameters.get("trained")
    return (
        NONE
        if total is None or trained is None
        else f"{_short(total)}, {_short(trained)} of them trained"
    )


def _short(count: float) -> str:
    for unit in ("", " k", " M"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g} G"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(
        f"{counts[name]:,} {name}" for name in ("users", "items", "interactions") if name in counts
    )


def _with_baseline(runs: Iterable[Run], name: str) -> Run | None:
    return next((run for run in runs if run.results.get("baselines", {}).get(name)), None)


def _baseline(runs: Sequence[Run], name: str, metric: str = "hr@10") -> float | None:
    source = _with_baseline(runs, name)
    return None if source is None else source.baseline(name, metric)


def _best(columns: Sequence[Sequence[float | None]], run: int) -> frozenset[int]:
    """The columns in which the run at index `run` is the best of two or more; nobody is best with nothing."""
    known = [[value for value in column if value is not None] for column in columns]
    return frozenset(
        i
        for i, values in enumerate(known)
        if len(values) > 1 and columns[i][run] == max(values) > 0
    )
