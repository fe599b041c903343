"""Our runs in the rows of the paper's tables.

A run belongs to a row by its configuration, whatever its name and folder: by its recommender, and by what an item is made of (id,
frozen features, a trained video encoder). A video encoder counts if it is one of the paper's with its own architecture: a small
version of VideoMAE is no row.
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
    VideoEncoder,
)
from mlrec.report.runs import Run
from mlrec.report.tables import NONE, Row, Table, listed, number

ENCODERS = {row.encoder for row in VIDEO_ENCODERS}


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper with our figures in it."""

    title: str
    table: Table
    notes: tuple[str, ...]
    """Sentences that belong below it."""


def baselines_table(runs: Sequence[Run]) -> PaperTable:
    """Table 2: each system's line, then one for each run of it on another data set, which has no figure of the paper's beside."""
    rows: list[Row] = []
    placed: set[str] = set()
    for baseline in BASELINES:
        key = (baseline.recommender, baseline.inputs)
        ours = [run for run in runs if (_option(run, "recommender", "name"), inputs_of(run)) == key]
        placed |= {run.name for run in ours}
        on_paper = [run for run in ours if _dataset(run) == DATASET]
        others = [run for run in ours if run not in on_paper]
        first: list[Run | None] = [*on_paper] or [None]
        for run in [*first, *others]:
            papers = [None] * len(METRICS) if run in others else baseline.figures
            figures = (
                _beside(paper, run, name) for name, paper in zip(METRICS, papers, strict=True)
            )
            last = (run.name, _dataset(run)) if run else (NONE, DATASET)
            rows.append(
                Row(baseline.name, (baseline.kind, *figures, *last), is_run=run is not None)
            )
    header = ("", *(f"{name.upper()}: paper / ours" for name in METRICS), "run", "data set")
    return PaperTable(
        "Beside the paper's table 2", Table("system", header, tuple(rows)), _notes(runs, placed)
    )


def encoders_table(runs: Sequence[Run]) -> PaperTable:
    """The table of video encoders with SASRec, by ACC@5: each encoder's line, then one for each other data set of its runs."""
    rows: list[Row] = []
    placed: set[str] = set()
    for row in sorted(VIDEO_ENCODERS, key=lambda row: row.accuracy):
        lines: dict[tuple[str, int], dict[str, Run]] = {(DATASET, 0): {}}
        seen: Counter[tuple[str, str]] = Counter()
        for run in runs:
            place = (_dataset(run), _tuning(run, row.encoder))
            if _is_of_encoder(run, row):
                lines.setdefault((place[0], seen[place]), {})[place[1]] = (
                    run  # of two runs in one place each has a line
                )
                seen[place] += 1
                placed.add(run.name)
        for (dataset, _), of_tuning in lines.items():
            cells = [f"{row.accuracy:.2f}"]
            for tuning, paper in zip(TUNINGS, row.figures, strict=True):
                papers = paper if paper and dataset == DATASET else (None, None)
                cells += [
                    _beside(*given)
                    for given in zip(papers, [of_tuning.get(tuning)] * 2, METRICS[:2], strict=True)
                ]
            rows.append(Row(row.name, (*cells, dataset), is_run=bool(of_tuning)))
    columns = (
        f"{tuning} {name.upper()}: paper / ours" for tuning in TUNINGS for name in METRICS[:2]
    )
    notes = _notes(runs, placed)
    if missing := [row.name for row in VIDEO_ENCODERS if None in row.figures]:
        notes = (
            *notes,
            f"Not filled in are the paper's HR@10 and NDCG@10 of {', '.join(missing)}.",
        )
    table = Table("video encoder", ("ACC@5", *columns, "data set"), tuple(rows))
    return PaperTable("Beside the paper's table of video encoders", table, notes)


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
    """Our runs of the paper's video encoders with SASRec that have results of the test split."""
    return [
        EncoderPoint(row.name, row.accuracy, _tuning(run, row.encoder), hit_rate)
        for row in VIDEO_ENCODERS
        for run in runs
        if _is_of_encoder(run, row)
        and _is_ranked(run)
        and (hit_rate := run.metric("hr@10")) is not None
    ]


def _is_of_encoder(run: Run, row: VideoEncoder) -> bool:
    is_encoder = (
        _encoders(run) == [row.encoder]
        and _is_papers(run, row.encoder)
        and _tuning(run, row.encoder) in TUNINGS
    )
    return is_encoder and _option(run, "recommender", "name") == "sasrec"


PAPER_TABLES: dict[str, Callable[[Sequence[Run]], PaperTable]] = {
    "baselines": baselines_table,
    "encoders": encoders_table,
}


def inputs_of(run: Run) -> frozenset[str]:
    """What the run's items are made of, in the words of `published.Input`; an encoder that no row has stands for itself."""
    found = set()
    for name in _encoders(run):
        if _is_papers(run, name):
            found.add("frozen" if _tuning(run, name) == "frozen" else "trained")
        else:
            found.add({"id/embedding": "id", "features/vectors": "frozen"}.get(name, name))
    return frozenset(found)


def _notes(runs: Sequence[Run], placed: set[str]) -> tuple[str, ...]:
    others = [run.name for run in runs if run.name in placed and _dataset(run) != DATASET]
    rowless = [run.name for run in runs if run.name not in placed]
    unranked = [run.name for run in runs if run.name in placed and not _is_ranked(run)]
    notes = [
        f"Paper: {SOURCE}, {DATASET}, test split. Ours: test split, ± the standard error over the users."
    ]
    if others:
        notes.append(
            f"On another data set than {DATASET}, and so not to be compared with the paper's figures: {listed(others)}."
        )
    if unranked:
        notes.append(
            f"Without results of the test split: {listed(unranked)}; mlrec evaluate RUN writes them."
        )
    if rowless:
        notes.append(f"In no row of this table: {listed(rowless)}.")
    return tuple(notes)


def _option(run: Run, section: str, key: str) -> Any:
    return (run.config.get(section) or {}).get(key)


def _encoders(run: Run) -> list[str]:
    return list(_option(run, "item", "encoders") or ())


def _options(run: Run, encoder: str) -> dict[str, Any]:
    return dict((_option(run, "item", "options") or {}).get(encoder, {}))


def _tuning(run: Run, encoder: str) -> str:
    return str(_options(run, encoder).get("tuning") or _option(run, "item", "tuning"))


def _is_papers(run: Run, encoder: str) -> bool:
    """Whether it is one of the paper's video encoders, with its own architecture."""
    return encoder in ENCODERS and "config" not in _options(run, encoder)


def _dataset(run: Run) -> str:
    """The paper's data set, or the name and the size of another."""
    dataset = run.info.get("dataset", {})
    counts = dataset.get("counts", {})
    if all(counts.get(name) == count for name, count in COUNTS.items()):
        return DATASET
    sizes = (f"{counts[name]:,} {name}" for name in COUNTS if name in counts)
    return ", ".join([str(dataset.get("name", "unknown")), *sizes])


def _is_ranked(run: Run) -> bool:
    return run.results.get("split") == "test"


def _beside(paper: float | None, run: Run | None, metric: str) -> str:
    ours = NONE
    if run is not None and _is_ranked(run):
        ours = number(run.metric(metric))
        if metric in run.errors:
            ours += f" ± {number(run.errors[metric])}"
    return f"{number(paper)} / {ours}"
