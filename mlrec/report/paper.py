"""Our runs in the rows of the paper's tables.

A run belongs to a row because of its configuration, not its name. What counts is the recommender
and what an item is made of: its id, frozen features, or a trained video encoder. A video encoder
counts if it is one of the paper's with its own architecture. A small VideoMAE has no row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlrec.report.published import (
    BASELINES,
    COUNTS,
    DATASET,
    METRICS,
    SOURCE,
    TUNINGS,
    VIDEO_ENCODERS,
    Baseline,
    VideoEncoder,
)
from mlrec.report.runs import Run
from mlrec.report.tables import Row, Table
from mlrec.report.wording import NONE, listed, number, with_error

ENCODERS = {row.encoder for row in VIDEO_ENCODERS}


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper that includes our figures."""

    title: str
    table: Table
    notes: tuple[str, ...]
    """Sentences below the table."""


def baselines_table(runs: Sequence[Run]) -> PaperTable:
    """Return table 2 of the paper with our runs.

    Each system has a line per run on the paper's data set, or one line without a run. Lines for
    runs on other data sets follow, without the paper's figures.
    """
    rows: list[Row] = []
    placed: set[str] = set()
    for baseline in BASELINES:
        comparable_rows: list[Row] = []
        other_rows: list[Row] = []
        for run in runs:
            if _is_of_baseline(run, baseline):
                placed.add(run.name)
                own_rows = comparable_rows if _dataset(run) == DATASET else other_rows
                own_rows.append(_baseline_row(baseline, run))
        rows += comparable_rows or [_baseline_row(baseline, None)]
        rows += other_rows
    columns = [f"{name.upper()}: paper / ours" for name in METRICS]
    table = Table("system", ("", *columns, "run", "data set"), tuple(rows))
    return PaperTable("Beside the paper's table 2", table, _notes(runs, placed))


def _is_of_baseline(run: Run, baseline: Baseline) -> bool:
    recommender = _option(run, "recommender", "name")
    return recommender == baseline.recommender and inputs_of(run) == baseline.inputs


def _baseline_row(baseline: Baseline, run: Run | None) -> Row:
    """Return the line of a system, for one of our runs or without."""
    dataset = DATASET if run is None else _dataset(run)
    cells = [baseline.kind]
    for name, figure in zip(METRICS, baseline.figures, strict=True):
        # the paper's figures are comparable only on its own data set
        paper = figure if dataset == DATASET else None
        cells.append(_paper_and_ours(paper, run, name))
    cells += [NONE if run is None else run.name, dataset]
    return Row(baseline.name, tuple(cells), is_run=run is not None)


def encoders_table(runs: Sequence[Run]) -> PaperTable:
    """Return the paper's table of video encoders with SASRec and our runs, by ACC@5.

    Each encoder has a line for the paper's data set, and one for each other data set of its runs.
    """
    rows: list[Row] = []
    placed: set[str] = set()
    for encoder in sorted(VIDEO_ENCODERS, key=lambda encoder: encoder.accuracy):
        own = [run for run in runs if _is_of_encoder(run, encoder)]
        placed |= {run.name for run in own}
        for (dataset, _), run_of_tuning in _lines_of_encoder(own, encoder).items():
            rows.append(_encoder_row(encoder, dataset, run_of_tuning))
    columns = []
    for tuning in TUNINGS:
        columns += [f"{tuning} {name.upper()}: paper / ours" for name in METRICS[:2]]
    notes = _notes(runs, placed)
    missing = [encoder.name for encoder in VIDEO_ENCODERS if None in encoder.figures]
    if missing:
        note = f"Not filled in are the paper's HR@10 and NDCG@10 of {', '.join(missing)}."
        notes = (*notes, note)
    table = Table("video encoder", ("ACC@5", *columns, "data set"), tuple(rows))
    return PaperTable("Beside the paper's table of video encoders", table, notes)


def _lines_of_encoder(
    runs: Sequence[Run], encoder: VideoEncoder
) -> dict[tuple[str, int], dict[str, Run]]:
    """Arrange the runs of an encoder in lines of a data set, each with one run per tuning.

    A second run with the same data set and tuning goes to a second line of the data set.
    """
    lines: dict[tuple[str, int], dict[str, Run]] = {(DATASET, 0): {}}
    num_placed: Counter[tuple[str, str]] = Counter()
    for run in runs:
        dataset = _dataset(run)
        tuning = run.encoder_tuning(encoder.encoder)
        line = lines.setdefault((dataset, num_placed[dataset, tuning]), {})
        line[tuning] = run
        num_placed[dataset, tuning] += 1
    return lines


def _encoder_row(encoder: VideoEncoder, dataset: str, run_of_tuning: dict[str, Run]) -> Row:
    cells = [f"{encoder.accuracy:.2f}"]
    for tuning, figures in zip(TUNINGS, encoder.figures, strict=True):
        hit_rate, ndcg = figures if figures and dataset == DATASET else (None, None)
        run = run_of_tuning.get(tuning)
        cells.append(_paper_and_ours(hit_rate, run, "hr@10"))
        cells.append(_paper_and_ours(ndcg, run, "ndcg@10"))
    return Row(encoder.name, (*cells, dataset), is_run=bool(run_of_tuning))


@dataclass(frozen=True)
class EncoderPoint:
    """One of our runs in the paper's figure of video encoders."""

    name: str
    accuracy: float
    """ACC@5 of the encoder's checkpoint, in percent."""
    tuning: str
    hit_rate: float
    """HR@10 of the test split."""


def encoder_points(runs: Sequence[Run]) -> list[EncoderPoint]:
    """Return our runs of the paper's video encoders with SASRec that have test results."""
    points = []
    for encoder in VIDEO_ENCODERS:
        for run in runs:
            hit_rate = run.metric("hr@10")
            if _is_of_encoder(run, encoder) and _is_ranked(run) and hit_rate is not None:
                tuning = run.encoder_tuning(encoder.encoder)
                points.append(EncoderPoint(encoder.name, encoder.accuracy, tuning, hit_rate))
    return points


def _is_of_encoder(run: Run, encoder: VideoEncoder) -> bool:
    """Tell whether a run is SASRec over this encoder alone, tuned as in the paper."""
    if run.encoders != [encoder.encoder] or not _is_papers(run, encoder.encoder):
        return False
    is_sasrec = _option(run, "recommender", "name") == "sasrec"
    return is_sasrec and run.encoder_tuning(encoder.encoder) in TUNINGS


PAPER_TABLES: dict[str, Callable[[Sequence[Run]], PaperTable]] = {
    "baselines": baselines_table,
    "encoders": encoders_table,
}


def inputs_of(run: Run) -> frozenset[str]:
    """Return what the run's items are made of, as `published.Input`.

    An encoder that belongs to no row is returned under its own name.
    """
    inputs = set()
    for name in run.encoders:
        if _is_papers(run, name):
            inputs.add("frozen" if run.encoder_tuning(name) == "frozen" else "trained")
        else:
            inputs.add({"id/embedding": "id", "features/vectors": "frozen"}.get(name, name))
    return frozenset(inputs)


def _notes(runs: Sequence[Run], placed: set[str]) -> tuple[str, ...]:
    """Return the sentences below a table.

    Args:
        placed: names of the runs that have a line in it.
    """
    others = []
    rowless = []
    unranked = []
    for run in runs:
        if run.name not in placed:
            rowless.append(run.name)
            continue
        if _dataset(run) != DATASET:
            others.append(run.name)
        if not _is_ranked(run):
            unranked.append(run.name)
    # every table says whose figures it compares
    notes = [
        f"Paper: {SOURCE}, {DATASET}, test split. "
        "Ours: test split, ± the standard error over the users."
    ]
    if others:
        notes.append(
            f"On another data set than {DATASET}, and so not to be compared with the paper's "
            f"figures: {listed(others)}."
        )
    if unranked:
        notes.append(
            f"Without results of the test split: {listed(unranked)}; "
            "mlrec evaluate RUN writes them."
        )
    if rowless:
        notes.append(f"In no row of this table: {listed(rowless)}.")
    return tuple(notes)


def _option(run: Run, section: str, key: str) -> Any:
    return (run.config.get(section) or {}).get(key)


def _is_papers(run: Run, encoder: str) -> bool:
    """Tell whether an encoder is one of the paper's video encoders, with its own architecture."""
    return encoder in ENCODERS and "config" not in run.encoder_options(encoder)


def _dataset(run: Run) -> str:
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


def _is_ranked(run: Run) -> bool:
    return run.results.get("split") == "test"


def _paper_and_ours(paper: float | None, run: Run | None, metric: str) -> str:
    """Return a cell: the paper's figure, and ours with its standard error."""
    ours = NONE
    if run is not None and _is_ranked(run):
        ours = with_error(run.metric(metric), run.error(metric))
    return f"{number(paper)} / {ours}"
