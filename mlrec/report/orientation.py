"""What a report says first: what each run is, which run is best, and which are below popularity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from mlrec.report.baselines import baseline
from mlrec.report.cost import tuning_of
from mlrec.report.runs import Run
from mlrec.report.seeds import Line, lines_of
from mlrec.report.tables import Row, Table, dataset_name, of_all_runs, splits
from mlrec.report.wording import (
    NONE,
    count_in_words,
    counts_in_words,
    duration,
    listed,
    number,
    ratio,
    share,
)
from mlrec.runtime.printable import counted

BELOW_POPULARITY = "below popularity"


@dataclass(frozen=True)
class Choice:
    """The best line of a data set and split, and how it was chosen."""

    line: Line
    metric: str
    value: float
    """Metric on which the lines were compared; mean over the seeds."""
    is_by_validation: bool
    """False if no run logged a validation, so that the reported split itself decided."""
    num_lines: int
    """Lines that were compared."""

    @property
    def tag(self) -> str:
        """Remark next to the name of the line."""
        return "best on validation" if self.is_by_validation else "best"


def choose(runs: Sequence[Run]) -> Choice | None:
    """Return the best line of runs with the same data set and split; None if none is ranked.

    Runs are compared by the validation that chose their checkpoint. A run without one is left out
    unless no run has one.
    """
    lines = lines_of(runs)
    metric = _metric_of_choice(runs)
    by_validation = {line.name: _validation(line, metric) for line in lines}
    is_by_validation = any(value is not None for value in by_validation.values())
    if not is_by_validation:
        metric = "hr@10"
    best: Choice | None = None
    num_lines = 0
    for line in lines:
        spread = line.metric(metric)
        reported = None if spread is None else spread.mean
        value = by_validation[line.name] if is_by_validation else reported
        if value is None:
            continue
        num_lines += 1
        if best is None or value > best.value:
            best = Choice(line, metric, value, is_by_validation, 0)
    return None if best is None else replace(best, num_lines=num_lines)


def _metric_of_choice(runs: Sequence[Run]) -> str:
    """Return the metric that chose the checkpoints of all runs, else HR@10."""
    metrics = {str(run.config.get("evaluate", {}).get("select_by", "hr@10")) for run in runs}
    return metrics.pop() if len(metrics) == 1 else "hr@10"


def _validation(line: Line, metric: str) -> float | None:
    """Return a metric of the line's reported checkpoints on the validation split."""
    values = [_validation_of_run(run, metric) for run in line.runs]
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def _validation_of_run(run: Run, metric: str) -> float | None:
    if run.results.get("split") == "validation":
        return run.metric(metric)
    steps, values = run.curve(f"validation/{metric}")
    return dict(zip(steps, values, strict=True)).get(run.results.get("step", -1))


def below_popularity(runs: Sequence[Run]) -> list[str]:
    """Return the lines whose HR@10 is below that of the popularity ranking, by name."""
    popularity = baseline(runs, "popularity")
    names = []
    for line in lines_of(runs):
        hit_rate = line.metric("hr@10")
        if hit_rate is not None and popularity is not None and hit_rate.mean < popularity:
            names.append(line.name)
    return names


def tags_of(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """Return the remarks next to the names of lines that have some."""
    tags: dict[str, tuple[str, ...]] = {}
    choice = choose(runs)
    # the only run is the best one in any case
    if choice is not None and choice.num_lines > 1:
        tags[choice.line.name] = (choice.tag,)
    for name in below_popularity(runs):
        tags[name] = (*tags.get(name, ()), BELOW_POPULARITY)
    return tags


def headlines(runs: Sequence[Run]) -> list[str]:
    """Return sentences about the best run of a data set and split; none if none has results."""
    choice = choose(runs)
    if choice is None:
        return []
    spread = choice.line.metric("hr@10")
    reached = "–" if spread is None else spread.in_words()
    split = splits(choice.line.runs)
    sentence = f"{_subject(choice.line)} reaches HR@10 {reached} on the {split} split"
    if choice.num_lines > 1:
        num_left_out = len(lines_of(runs)) - choice.num_lines
        sentence = f"{_reason(choice, split, num_left_out)}: {sentence}"
    comparisons = []
    popularity = baseline(runs, "popularity")
    if spread is not None and popularity is not None:
        comparisons.append(f"{ratio(spread.mean, popularity)} popularity")
    oracle = baseline(runs, "oracle")
    if spread is not None and oracle is not None:
        of_oracle = f"{share(spread.mean, oracle)} of the oracle"
        comparisons.append(f"{of_oracle}, the model that generated the data")
    end = f", which is {' and '.join(comparisons)}" if comparisons else ""
    sentences = [f"{sentence}{end}."]
    below = below_popularity(runs)
    if below:
        sentences.append(f"Below popularity on HR@10: {listed(below)}.")
    return sentences


def _subject(line: Line) -> str:
    if line.seeds is None:
        return line.name
    return f"{line.short_name} (mean of {counted(len(line.runs), 'seed')})"


def _reason(choice: Choice, split: str, num_left_out: int) -> str:
    """Return how the best line was chosen, and why runs were left out."""
    best = f"Best of {counted(choice.num_lines, 'run')}"
    if choice.is_by_validation:
        reason = f"{best} on validation ({choice.metric.upper()} {number(choice.value)}"
        if num_left_out:
            reason += f"; {counted(num_left_out, 'other')} without a validation result"
        return f"{reason})"
    return f"{best} on the {split} split, as none logged a validation"


def overview_table(runs: Sequence[Run]) -> Table:
    """Return one line per run: what it is, how large, how long it trained, on what.

    What all of several runs share is named below the table instead.
    """
    facts: dict[str, Callable[[Run], str]] = {
        "items": lambda run: " + ".join(run.encoders) or NONE,
        "tuning": lambda run: tuning_of(run) or NONE,
        "recommender": lambda run: str((run.config.get("recommender") or {}).get("name", NONE)),
        "parameters": lambda run: _parameters(run, "total"),
        "trained": lambda run: _parameters(run, "trained"),
        "epochs": _epochs,
        "time": lambda run: duration(run.info.get("hours")),
        "hardware": _hardware,
        "data set": _dataset,
    }
    shared = []
    columns: dict[str, list[str]] = {}
    for name, fact in facts.items():
        cells = [fact(run) for run in runs]
        is_shared = len(runs) > 1 and name in ("recommender", "hardware", "data set")
        if is_shared and len(set(cells)) == 1:
            shared.append(f"{name} {cells[0]}")
        else:
            columns[name] = cells
    rows = []
    for index, run in enumerate(runs):
        rows.append(Row(run.name, tuple(column[index] for column in columns.values())))
    words = {"items", "tuning", "recommender", "hardware", "data set"}
    left = frozenset(index for index, name in enumerate(columns) if name in words)
    return Table("run", tuple(columns), tuple(rows), words=left, note=of_all_runs(shared))


def _parameters(run: Run, kind: str) -> str:
    count = run.info.get("parameters", {}).get(kind)
    return NONE if count is None else count_in_words(count)


def _epochs(run: Run) -> str:
    """Return the trained epochs, and the one of the ranked checkpoint if it is not the last."""
    _, epochs = run.curve("train/epoch")
    if not epochs:
        return NONE
    trained = f"{epochs[-1]:.3g}"
    reported = run.epoch_of(run.results["step"]) if run.results else None
    if reported is None or f"{reported:.3g}" == trained:
        return trained
    return f"{trained} (best {reported:.3g})"


def _hardware(run: Run) -> str:
    hardware = run.info.get("hardware")
    if hardware is None:
        return NONE
    world = run.info.get("world")
    return str(hardware) if world in (None, 1) else f"{hardware}, {world} processes"


def _dataset(run: Run) -> str:
    if not run.dataset:
        return NONE
    counts = {name: run.dataset.get("counts", {}).get(name) for name in ("users", "items")}
    known = {name: count for name, count in counts.items() if count is not None}
    return ", ".join(filter(None, (dataset_name(run), counts_in_words(known))))
