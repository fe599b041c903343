"""Our runs in the rows of the paper's tables.

A run belongs to a row because of its configuration, not its name. What counts is the recommender
and what an item is made of: its id, frozen features, or a trained video encoder. A video encoder
counts if it is one of the paper's with its own architecture. A small VideoMAE has no row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlrec.report.later import LATER_NOTE, later_table
from mlrec.report.own import Own, dataset_of, is_ranked, owns
from mlrec.report.paper_table import CostPoint, Line, Pair, PaperTable
from mlrec.report.published import (
    BASELINES,
    DATASET,
    LATER_RESULTS,
    METRICS,
    SOURCE,
    TUNINGS,
    VIDEO_ENCODERS,
    Baseline,
    Figure,
    VideoEncoder,
)
from mlrec.report.runs import Run
from mlrec.report.wording import listed

ENCODERS = {row.encoder for row in VIDEO_ENCODERS}


def baselines_table(runs: Sequence[Run]) -> PaperTable:
    """Return table 2 of the paper with our runs.

    Each system has a line per run on the paper's data set, or one line without a run. Lines for
    runs on other data sets follow, without the published figures.
    """
    lines: list[Line] = []
    placed: set[str] = set()
    for baseline in BASELINES:
        comparable: list[Line] = []
        others: list[Line] = []
        for own in owns(runs):
            if _is_of_baseline(own.run, baseline):
                placed.update(own.names)
                is_comparable = dataset_of(own.run) == DATASET
                (comparable if is_comparable else others).append(_baseline_line(baseline, own))
        lines += comparable or [_baseline_line(baseline, None)]
        lines += others
    return PaperTable(
        title="Table 2 of the MicroLens paper",
        corner="system",
        facts=("kind",),
        groups=tuple(name.upper() for name in METRICS),
        lines=tuple(lines),
        later=later_table(LATER_RESULTS),
        notes=_notes(runs, placed),
        later_note=LATER_NOTE,
    )


def _is_of_baseline(run: Run, baseline: Baseline) -> bool:
    recommender = _option(run, "recommender", "name")
    return recommender == baseline.recommender and inputs_of(run) == baseline.inputs


def _baseline_line(baseline: Baseline, own: Own | None) -> Line:
    """Return the line of a system, for runs of ours or without."""
    dataset = DATASET if own is None else dataset_of(own.run)
    pairs = []
    for name, value in zip(METRICS, baseline.figures, strict=True):
        # the published figures are comparable only on their own data set
        published = Figure(value) if dataset == DATASET else None
        pairs.append(Pair(published, None if own is None else own.figure(name)))
    runs = () if own is None else (own.name,)
    return Line(baseline.name, (baseline.kind,), tuple(pairs), dataset, runs)


def encoders_table(runs: Sequence[Run]) -> PaperTable:
    """Return the paper's video encoders with SASRec and our runs, by ACC@5.

    Each encoder has a line for the paper's data set, and one for each other data set of its runs.
    """
    lines: list[Line] = []
    points: list[CostPoint] = []
    placed: set[str] = set()
    for encoder in sorted(VIDEO_ENCODERS, key=lambda encoder: encoder.accuracy):
        own_of_encoder = [own for own in owns(runs) if _is_of_encoder(own.run, encoder)]
        for own in own_of_encoder:
            placed.update(own.names)
        for (dataset, _), own_of in _lines_of_encoder(own_of_encoder, encoder).items():
            lines.append(_encoder_line(encoder, dataset, own_of))
        points += _cost_points(encoder, own_of_encoder)
    read_off = (
        "The published HR@10 is read off the bars of the paper's figure: ± the accuracy of the "
        "reading. Figures without ± are stated in its text. GFLOP: forward pass of a video, "
        "counted as in mlrec plan."
    )
    return PaperTable(
        title="Video encoders of the MicroLens paper with SASRec: HR@10",
        corner="video encoder",
        facts=("ACC@5", "GFLOP"),
        groups=TUNINGS,
        lines=tuple(lines),
        later=later_table([row for row in LATER_RESULTS if row.recommender == "SASRec"]),
        notes=(*_notes(runs, placed), read_off),
        later_note=LATER_NOTE,
        points=tuple(points),
    )


def _lines_of_encoder(
    owns: Sequence[Own], encoder: VideoEncoder
) -> dict[tuple[str, int], dict[str, Own]]:
    """Arrange the runs of an encoder in lines of a data set, each with one run per tuning.

    A second run with the same data set and tuning goes to a second line of the data set.
    """
    lines: dict[tuple[str, int], dict[str, Own]] = {(DATASET, 0): {}}
    num_placed: Counter[tuple[str, str]] = Counter()
    for own in owns:
        dataset = dataset_of(own.run)
        tuning = own.run.encoder_tuning(encoder.encoder)
        line = lines.setdefault((dataset, num_placed[dataset, tuning]), {})
        line[tuning] = own
        num_placed[dataset, tuning] += 1
    return lines


def _encoder_line(encoder: VideoEncoder, dataset: str, own_of: Mapping[str, Own]) -> Line:
    pairs = []
    for tuning, figure in zip(TUNINGS, encoder.figures, strict=True):
        published = figure if dataset == DATASET else None
        own = own_of.get(tuning)
        pairs.append(Pair(published, None if own is None else own.figure("hr@10")))
    facts = (f"{encoder.accuracy:.2f}", f"{encoder.gflops[0]:.1f}")
    runs = tuple(own_of[tuning].name for tuning in TUNINGS if tuning in own_of)
    return Line(encoder.name, facts, tuple(pairs), dataset, runs)


def _cost_points(encoder: VideoEncoder, owns: Sequence[Own]) -> list[CostPoint]:
    """Return the published points of an encoder, and ours on the same data set."""
    cost_of = dict(zip(TUNINGS, encoder.gflops, strict=True))
    points = []
    for tuning, figure in zip(TUNINGS, encoder.figures, strict=True):
        points.append(CostPoint(encoder.name, tuning, cost_of[tuning], figure))
    for own in owns:
        hit_rate = own.figure("hr@10")
        if hit_rate is not None and dataset_of(own.run) == DATASET:
            tuning = own.run.encoder_tuning(encoder.encoder)
            points.append(CostPoint(encoder.name, tuning, cost_of[tuning], hit_rate, own.name))
    return points


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
            if _is_of_encoder(run, encoder) and is_ranked(run) and hit_rate is not None:
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
        if dataset_of(run) != DATASET:
            others.append(run.name)
        if not is_ranked(run):
            unranked.append(run.name)
    # every table says whose figures it compares
    notes = [f"Published: {SOURCE}, {DATASET}, test split."]
    if placed:
        notes.append(
            "Ours: test split, ± the standard error over the users, or the standard deviation over "
            "the seeds where several runs differ only in their seed."
        )
    if others:
        notes.append(
            f"On another data set than {DATASET}, and so not to be compared with the published "
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
