"""Tables of what runs reached, with uncertainty and with the baselines below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from mlrec.report.baselines import BASELINES, baseline, with_baseline
from mlrec.report.orientation import tags_of
from mlrec.report.runs import Run, metrics_of
from mlrec.report.seeds import Line, lines_of
from mlrec.report.significance import Leaders, is_small, leaders, small_note, uncertainty_note
from mlrec.report.tables import Row, Table, popularity_groups, splits
from mlrec.report.wording import NONE, number, ratio, share

MARKS_AS_ABOVE = "± and marks as in the results."
SHORT_METRICS = ("hr@10", "ndcg@10")
"""Metrics of a table that is as wide as a terminal."""


def results_table(runs: Sequence[Run], metrics: Sequence[str] = ()) -> Table:
    """Return the metrics of runs with the same data set and split, with the baselines below.

    HR@10 is followed by its ratio to popularity and its share of the oracle. Runs that differ only
    in their seed follow the line of their mean.

    Args:
        metrics: those after HR@10; empty for all.
    """
    popularity = baseline(runs, "popularity")
    oracle = baseline(runs, "oracle")
    others = [name for name in metrics or metrics_of(runs) if name != "hr@10"]

    def cells(hit_rate: float | None, words: Callable[[str], str]) -> tuple[str, ...]:
        relative = (ratio(hit_rate, popularity), share(hit_rate, oracle))
        return (words("hr@10"), *relative, *map(words, others))

    lines = lines_of(runs)
    # the two relative columns follow HR@10, which is marked for them
    columns = {0: "hr@10", **dict(enumerate(others, start=3))}
    leaders_of = {column: leaders(lines, name) for column, name in columns.items()}
    tags = tags_of(runs)
    rows = []
    for line, is_seed in _with_seeds(runs, lines):
        cells_of_line = cells(_mean(line, "hr@10"), partial(_in_words, line))
        row = Row(line.name, cells_of_line, is_seed=is_seed, tags=tags.get(line.name, ()))
        rows.append(_marked(row, leaders_of))
    for name in BASELINES:
        source = with_baseline(runs, name)
        if source is not None:
            words = partial(_baseline_in_words, source, name)
            cells_of_line = cells(source.baseline(name, "hr@10"), words)
            rows.append(Row(name, cells_of_line, is_run=False))
    header = ("HR@10", "× popularity", "% of oracle", *map(str.upper, others))
    note = uncertainty_note(lines)
    return Table(f"{splits(runs)} split, all users", header, tuple(rows), note=note)


def popularity_table(runs: Sequence[Run], metric: str = "hr@10") -> Table:
    """Return a metric by popularity group of the target, cold items first."""
    groups = popularity_groups(runs)
    lines = lines_of(runs)
    leaders_of = {}
    small = set()
    for column, group in enumerate(groups):
        leaders_of[column] = leaders(lines, metric, group)
        if is_small(lines, group):
            small.add(column)
    rows = []
    for line, is_seed in _with_seeds(runs, lines):
        cells = tuple(_in_words(line, metric, group) for group in groups)
        rows.append(_marked(Row(line.name, cells, is_seed=is_seed), leaders_of))
    source = with_baseline(runs, "popularity")
    if source is not None:
        values = [source.baseline("popularity", metric, group) for group in groups]
        rows.append(Row("popularity", tuple(map(number, values)), is_run=False))
    rows.append(Row("users", tuple(_users(runs, group) for group in groups), is_run=False))
    names = tuple(groups)
    notes = [MARKS_AS_ABOVE if uncertainty_note(lines) else ""]
    notes.append(small_note([names[column] for column in sorted(small)]))
    corner = "training interactions of the target"
    return Table(
        corner, names, tuple(rows), small=frozenset(small), note=" ".join(filter(None, notes))
    )


def _with_seeds(runs: Sequence[Run], lines: Sequence[Line]) -> list[tuple[Line, bool]]:
    """Return the lines, each followed by those of its seeds, and whether it is one of those.

    Runs without results come last.
    """
    all_lines: list[tuple[Line, bool]] = []
    for line in lines:
        all_lines.append((line, False))
        if line.seeds is not None:
            all_lines += [(Line(run.name, (run,)), True) for run in line.runs]
    named = {line.name for line, _ in all_lines}
    return all_lines + [(Line(run.name, (run,)), False) for run in runs if run.name not in named]


def _marked(row: Row, leaders_of: dict[int, Leaders]) -> Row:
    """Return the row with its marks."""
    if row.is_seed:
        return row
    best = {column for column, leading in leaders_of.items() if leading.best == row.name}
    tied = {column for column, leading in leaders_of.items() if row.name in leading.tied}
    return replace(row, best=frozenset(best), tied=frozenset(tied))


def _mean(line: Line, metric: str) -> float | None:
    spread = line.metric(metric)
    return None if spread is None else spread.mean


def _in_words(line: Line, metric: str, group: str = "all") -> str:
    spread = line.metric(metric, group)
    return NONE if spread is None else spread.in_words()


def _baseline_in_words(source: Run, name: str, metric: str) -> str:
    return number(source.baseline(name, metric))


def _users(runs: Sequence[Run], group: str) -> str:
    """Return how many users' targets are in a popularity group; all runs have the same users."""
    for run in runs:
        users = run.metric("users", group)
        if users is not None:
            return f"{users:,.0f}"
    return NONE
