"""The report as one page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlrec.config.yaml_files import to_yaml
from mlrec.report.bar_figures import bars, recommended_bars, waiting
from mlrec.report.cost import cost_table
from mlrec.report.cost_figures import costs
from mlrec.report.curves import curves
from mlrec.report.examples import Examples, examples_of
from mlrec.report.figures import MAX_COLORED_RUNS, colors, metric_axis
from mlrec.report.markdown import MAX_NAMED_RUNS, title
from mlrec.report.metric_tables import popularity_table, results_table
from mlrec.report.orientation import headlines, overview_table
from mlrec.report.page import MADE_BY, Drawing, render
from mlrec.report.paper import encoder_points
from mlrec.report.paper_figures import encoder_costs, encoders
from mlrec.report.paper_table import PaperTable
from mlrec.report.runs import Run, missing_parts
from mlrec.report.speed import speed_table
from mlrec.report.tables import (
    Table,
    differences_table,
    facts_table,
    group_names,
    groups_by_dataset,
    headed,
    splits,
)

MARKS = (f"<footer>{MADE_BY}",)
"""Text of every page, also of earlier versions."""
NUM_OPEN_USERS = 2
"""Examples of users that are not folded."""


@dataclass(frozen=True)
class Group:
    """The parts of a page about runs with the same data set and split."""

    name: str
    """Data set and split; empty if there is only one group."""
    split: str
    num_runs: int
    num_drawn: int
    """Runs with a color, which the figures by popularity show."""
    results: Table
    cost: Table
    """Without lines if no run logged its speed."""
    costs: list[Drawing]
    popularity: Table
    """Without columns if no run has results."""
    bars: list[Drawing]
    encoders: Drawing | None
    examples: Examples | None

    def heading(self, text: str) -> str:
        """Return the heading of one of the group's sections."""
        return headed(text, self.name)


def report(runs: Sequence[Run], paper: PaperTable | None = None) -> str:
    """Return the whole page.

    Args:
        paper: a table of the paper that includes the runs; shown first.
    """
    # with many runs, the best come first everywhere: they are the ones with a color
    if len(runs) > MAX_COLORED_RUNS:
        runs = sorted(runs, key=lambda run: -(run.metric("hr@10") or 0.0))
    grouped = groups_by_dataset(runs)
    color_of = colors(runs)
    groups = [
        _group(group, name, color_of)
        for group, name in zip(grouped, group_names(grouped), strict=True)
    ]
    values = {
        "title": title(runs, paper),
        "headlines": [text for group in grouped for text in headlines(group)],
        "missing": missing_parts(runs),
        "overview": overview_table(runs),
        "colors": color_of,
        "paper": paper,
        "paper_figure": paper and encoder_costs(paper.points),
        "groups": groups,
        "curves": _curves(runs),
        "speed": speed_table(runs),
        "waiting": waiting(runs, "Where the time of a step goes"),
        "differences": _differences(runs),
        "facts": _readable(facts_table(runs)),
        "configurations": {run.name: to_yaml(run.config).split("\n") for run in runs},
        "num_open_users": NUM_OPEN_USERS,
        "max_named_runs": MAX_NAMED_RUNS,
    }
    return render("report.html", values)


def _group(runs: Sequence[Run], name: str, color_of: dict[str, str]) -> Group:
    by_popularity = [
        bars(runs, "hr@10", "HR@10 by popularity of the target", color_of),
        recommended_bars(runs, "Share of the recommendations", color_of),
    ]
    return Group(
        name=name,
        split=splits(runs),
        num_runs=len(runs),
        num_drawn=sum(run.name in color_of for run in runs),
        results=results_table(runs),
        cost=cost_table(runs),
        costs=costs(runs),
        popularity=popularity_table(runs),
        bars=[drawing for drawing in by_popularity if drawing is not None],
        encoders=encoders(encoder_points(runs), "HR@10"),
        examples=examples_of(runs),
    )


def _curves(runs: Sequence[Run]) -> list[Drawing]:
    if not runs:
        return []
    metric = str(runs[0].config.get("evaluate", {}).get("select_by", "hr@10"))
    label = f"Validation {metric.upper()}"
    drawings = [
        curves(runs, "train/loss", "Training loss", "loss (nats)"),
        curves(runs, f"validation/{metric}", label, metric_axis(metric)),
    ]
    return [drawing for drawing in drawings if drawing is not None]


def _differences(runs: Sequence[Run]) -> Table | None:
    """Return the settings that differ, or None if there is nothing to compare."""
    differences = differences_table(runs)
    if len(runs) < 2 or not differences.rows:
        return None
    return _readable(differences)


def _readable(content: Table) -> Table:
    """Return a table of words with one column per run, or one line per run if there are many."""
    is_wide = len(content.header) > MAX_NAMED_RUNS
    return content.transposed() if is_wide and content.rows else content
