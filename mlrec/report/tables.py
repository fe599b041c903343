"""The report's tables, as text cells for Markdown, HTML and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlrec.report.runs import Run, flat
from mlrec.report.wording import NONE, counts_in_words


@dataclass(frozen=True)
class Row:
    """One line of a table: its name and its cells."""

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()
    """Columns in which this line is significantly better than all others; shown in bold."""
    tied: frozenset[int] = frozenset()
    """Columns in which this line shares the lead: shown with TIED."""
    is_run: bool = True
    """Whether the line is about a run, not about a baseline or a fact."""
    is_seed: bool = False
    """Whether the line is one seed of the line above it."""
    tags: tuple[str, ...] = ()
    """Short remarks next to the name."""


@dataclass(frozen=True)
class Table:
    """Cells below a header; the first column holds the names of the rows."""

    corner: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    is_numeric: bool = True
    """Whether the cells are figures, aligned to the right, or words."""
    small: frozenset[int] = frozenset()
    """Columns of groups with too few users; shown in grey."""
    words: frozenset[int] = frozenset()
    """Columns of words between those of figures; aligned to the left."""
    note: str = ""
    """What the marks of the table mean; one line below it."""

    def transposed(self) -> Table:
        """Return the table with rows as columns."""
        columns = zip(*(row.cells for row in self.rows), strict=True)
        rows = tuple(Row(name, cells) for name, cells in zip(self.header, columns, strict=True))
        header = tuple(row.name for row in self.rows)
        return Table(self.corner, header, rows, self.is_numeric, note=self.note)


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
        fingerprints.setdefault(dataset_name(group[0]), set()).add(_fingerprint(group[0]))
    names = []
    for group in groups:
        dataset = dataset_name(group[0])
        if len(fingerprints[dataset]) > 1:
            dataset = f"{dataset} {_fingerprint(group[0])[:12]}"
        names.append(f"{dataset}, {splits(group)} split")
    return names


def headed(heading: str, group_name: str) -> str:
    """Return the heading of a section about one group."""
    return f"{heading}: {group_name}" if group_name else heading


def dataset_name(run: Run) -> str:
    name = str(run.dataset.get("name", "unknown data set"))
    return f"{name}, split by time" if run.is_split_by_time else name


def _fingerprint(run: Run) -> str:
    return run.fingerprint or NONE


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
    """Return what each run was made from, and which of its checkpoints was ranked."""
    facts: dict[str, Callable[[Run], Any]] = {
        "commit": lambda run: run.info.get("commit"),
        "started": lambda run: str(run.info.get("started", NONE))[:16].replace("T", " "),
        "processes": lambda run: run.info.get("world"),
        "data set at": lambda run: run.dataset.get("url"),
        "data set holds": lambda run: counts_in_words(run.dataset.get("counts", {})),
        "fingerprint": lambda run: _fingerprint(run)[:12],
        "versions": lambda run: _versions(run.info.get("versions", {})),
        "reported split": lambda run: run.results.get("split"),
        "reported step": _reported_step,
        "chosen by": lambda run: run.results.get("selected_by"),
    }
    rows = []
    shared = []
    for name, fact in facts.items():
        cells = tuple(str(fact(run) or NONE) for run in runs)
        if len(runs) > 1 and len(set(cells)) == 1:
            shared.append(f"{name} {cells[0]}")
        else:
            rows.append(Row(name, cells, is_run=False))
    header = tuple(run.name for run in runs)
    return Table("", header, tuple(rows), is_numeric=False, note=of_all_runs(shared))


def of_all_runs(facts: Sequence[str]) -> str:
    """Return a sentence on what all runs of a table share; "" if nothing."""
    return f"All runs: {'; '.join(facts)}." if facts else ""


def _reported_step(run: Run) -> str | None:
    """Return the step of the ranked checkpoint, and its epoch if epochs were logged."""
    step = run.results.get("step")
    if step is None:
        return None
    epoch = run.epoch_of(step)
    return f"{step:,}" if epoch is None else f"{step:,} (epoch {epoch:.3g})"


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(map(" ".join, versions.items()))


def differences_table(runs: Sequence[Run]) -> Table:
    """Return the keys of the configuration in which the runs differ."""
    # names and folders differ in any case
    settings = [dict(flat(run.config)) for run in runs]
    keys: dict[str, None] = {}
    for settings_of_run in settings:
        keys |= dict.fromkeys(settings_of_run)
    rows = []
    for key in keys:
        cells = tuple(str(settings_of_run.get(key, NONE)) for settings_of_run in settings)
        if key not in ("name", "run_dir") and len(set(cells)) > 1:
            rows.append(Row(key, cells, is_run=False))
    return Table("key", tuple(run.name for run in runs), tuple(rows), is_numeric=False)


def splits(runs: Sequence[Run]) -> str:
    """Return the splits that the runs were ranked on; "test" if none was ranked."""
    names = {str(run.results["split"]) for run in runs if "split" in run.results}
    return " and ".join(sorted(names)) or "test"
