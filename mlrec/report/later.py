"""Results that others published later than the paper, on the same data set and split."""

from __future__ import annotations

from collections.abc import Sequence

from mlrec.report.published import (
    BASELINES,
    DATASET,
    LATER_SOURCE,
    METRICS,
    VIDEO_ENCODERS,
    LaterResult,
)
from mlrec.report.tables import Row, Table
from mlrec.report.wording import number

LATER_NOTE = (
    f"Published later, {DATASET}, test split: {LATER_SOURCE}. "
    "CVA trains an aggregator of frozen frame features, and chooses the frames by the video's "
    "title. The reruns train the encoder; how many of its layers is not known here."
)


def later_table(results: Sequence[LaterResult]) -> Table:
    """Return results that others published later, with what they compare with.

    Metrics that are known of none of them have no column.
    """
    columns = []
    for index, metric in enumerate(METRICS):
        if any(result.figures[index] is not None for result in results):
            columns.append((index, metric))
    rows = []
    for result in results:
        figures = [number(result.figures[index]) for index, _ in columns]
        cells = (result.items, _compared(result.compare_with), *figures)
        rows.append(Row(f"{result.name} with {result.recommender}", cells, is_run=False))
    metrics = [metric.upper() for _, metric in columns]
    header = ("items", "compare with HR@10 of", *metrics)
    return Table("system", header, tuple(rows), words=frozenset({0, 1}))


def _compared(name: str) -> str:
    """Return the paper's HR@10 of a system, or of an encoder that was trained."""
    for baseline in BASELINES:
        if baseline.name == name:
            return f"{name} {number(baseline.figures[0])}"
    encoder = next(encoder for encoder in VIDEO_ENCODERS if encoder.name == name)
    _, top, full = (number(figure.value) for figure in encoder.figures)
    return f"{name}, top {top}, full {full}"
