"""The report as one page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence

from mlrec.config.yaml_files import to_yaml
from mlrec.report import figures
from mlrec.report.escape import in_html, lines_in_html
from mlrec.report.examples import examples_section
from mlrec.report.markdown import NAMED, title
from mlrec.report.page import MADE_BY, chart, page, section, side_by_side, soft, table
from mlrec.report.paper import PaperTable, encoder_points
from mlrec.report.runs import Run
from mlrec.report.tables import (
    Table,
    differences_table,
    facts_table,
    group_names,
    groups_by_dataset,
    headed,
    headline,
    listed,
    popularity_table,
    results_table,
    speed_table,
)

MARKS = (f"<footer>{MADE_BY}",)
"""Every page has them, those of earlier versions too."""


def report(runs: Sequence[Run], paper: PaperTable | None = None) -> str:
    """The whole page."""
    if len(runs) > figures.MOST:
        runs = sorted(runs, key=lambda run: -(run.metric("hr@10") or 0.0))
    groups, colors = groups_by_dataset(runs), figures.colors(runs)
    named = list(zip(groups, group_names(groups), strict=True))
    body = [f"<h1>{in_html(title(runs))}</h1>"]
    body += [f'<p class="lead">{in_html(text)}</p>' for text in map(headline, groups) if text]
    body.append(_missing(runs))
    if paper is not None:
        body.append(
            section(
                paper.title,
                table(paper.table, colors)
                + "".join(f"<p>{in_html(note)}</p>" for note in paper.notes),
            )
        )
    body += [
        section(headed("Results", name), table(results_table(group), colors))
        for group, name in named
    ]
    body.append(_curves(runs))
    for group, name in named:
        encoders = chart(figures.encoders(encoder_points(group), "HR@10"), wide=True)
        heading = headed("Video encoders, by their ACC@5 on Kinetics-400", name)
        body.append(section(heading, encoders) if encoders else "")
        body += [_popularity(group, headed("Cold and popular items", name))]
        body += [examples_section(group, headed("What is recommended", name))]
    body.append(_speed(runs))
    if (differences := differences_table(runs)).rows and len(runs) > 1:
        body.append(section("What differs", table(_readable(differences), colors)))
    body.append(section("Runs", table(_readable(facts_table(runs)), colors)))
    body.append(_configurations(runs))
    return page(title(runs), body)


def _readable(content: Table) -> Table:
    """A table of words with a column per run, or with a line where there are many."""
    return content.transposed() if len(content.header) > NAMED else content


def _missing(runs: Sequence[Run]) -> str:
    names: dict[str, list[str]] = {}
    for run in runs:
        for text in run.missing:
            names.setdefault(text, []).append(run.name)
    notes = [
        f'<p class="note">{in_html(listed(found))} {in_html(text)}.</p>'
        for text, found in names.items()
    ]
    return "".join(notes)


def _curves(runs: Sequence[Run]) -> str:
    metric = str(runs[0].config.get("evaluate", {}).get("select_by", "hr@10"))
    return side_by_side(
        [
            figures.curves(runs, "train/loss", "Training loss"),
            figures.curves(
                runs, f"validation/{metric}", f"Validation {metric.upper()}", markers=True
            ),
        ]
    )


def _popularity(group: Sequence[Run], heading: str) -> str:
    content, colors = popularity_table(group), figures.colors(group)
    if not content.header:
        return ""
    drawn = [
        figures.bars(group, "hr@10", "HR@10 by popularity of the target"),
        figures.recommended_bars(group, "Share of the recommendations"),
    ]
    few = (
        soft(f"The figures below show the best {figures.MOST - 1} of {len(group)} runs.")
        if len(group) > figures.MOST
        else ""
    )
    cold = (
        soft("Cold items have no training interaction: ids cannot know them.")
        if "cold" in content.header
        else ""
    )
    return section(heading, f"{table(content, colors)}{cold}{few}") + side_by_side(drawn)


def _speed(runs: Sequence[Run]) -> str:
    content = speed_table(runs)
    if not content.rows:
        return ""
    bars = chart(figures.waiting(runs, "Where the time of a step goes"))
    return section("Speed", table(content, figures.colors(runs)) + bars)


def _configurations(runs: Sequence[Run]) -> str:
    found = [
        f"<details><summary>Configuration of {in_html(run.name)}</summary>"
        f"<pre>{lines_in_html(to_yaml(run.config))}</pre></details>"
        for run in runs
    ]
    if len(found) <= NAMED:
        return "".join(f"<section>{details}</section>" for details in found)
    return (
        f"<section><details><summary>Configurations</summary>{''.join(found)}</details></section>"
    )
