"""The report as one page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from omegaconf import OmegaConf

import mlrec
from mlrec.report import figures
from mlrec.report.markdown import title
from mlrec.report.paper import PaperTable
from mlrec.report.runs import Run
from mlrec.report.tables import (
    Row,
    Table,
    differences_table,
    facts_table,
    groups_by_dataset,
    headline,
    popularity_table,
    results_table,
)

STYLE = """
:root {
  color-scheme: light dark;
  --text: #1d2129; --soft: #667085; --line: #dfe3ea; --page: #f6f7f9; --card: #ffffff; --mark: #e9f1ff;
}
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ec; --soft: #98a1b0; --line: #333a45; --page: #12151a; --card: #1a1e25; --mark: #22324d; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2rem 1rem 3rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .75rem; }
.lead { font-size: 1.05rem; margin: 0 0 1.5rem; color: var(--soft); }
.note { border-left: 3px solid #e0a030; padding: .25rem .75rem; margin: 0 0 .75rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.2rem; margin: 0 0 1rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1rem; margin-bottom: 1rem; }
.pair > section { min-width: 0; margin: 0; }
.chart { max-width: 34rem; margin: 1.25rem auto 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child { position: sticky; left: 0; text-align: left; padding-left: 0; background: var(--card); }
thead th { color: var(--soft); font-weight: 500; font-size: .85rem; vertical-align: bottom; }
thead th:first-child { white-space: normal; }
tbody th { font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
tr.base > * { color: var(--soft); font-weight: 400; }
td.best { font-weight: 700; background: var(--mark); }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 11rem; vertical-align: top; }
.facts thead th { text-align: left; white-space: nowrap; }
.facts tbody th { color: var(--soft); font-weight: 400; vertical-align: top; }
i { display: inline-block; width: .65em; height: .65em; border-radius: 50%; margin-right: .5em; }
svg { display: block; width: 100%; height: auto; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font-size: .82rem; margin: .75rem 0 0; }
footer { color: var(--soft); font-size: .85rem; }
"""


def report(runs: Sequence[Run], paper: PaperTable | None = None) -> str:
    """The whole page."""
    groups = groups_by_dataset(runs)
    body = [f"<h1>{escape(title(runs))}</h1>"]
    body += [f'<p class="lead">{escape(text)}</p>' for text in map(headline, groups) if text]
    body += [f'<p class="note">{escape(run.name)} {escape(text)}.</p>' for run in runs for text in run.missing]
    if paper is not None:
        notes = "".join(f"<p>{escape(note)}</p>" for note in paper.notes)
        body.append(_section(paper.title, _table(paper.table, runs) + notes))
    body += [_section("Results", _table(results_table(group), runs)) for group in groups]
    body.append(_curves(runs))
    body += [_popularity(group, runs) for group in groups]
    if (differences := differences_table(runs)).rows and len(runs) > 1:
        body.append(_section("What differs", _table(differences, runs)))
    body.append(_section("Runs", _table(facts_table(runs), runs)))
    body += [_configuration(run) for run in runs]
    return _page(title(runs), "\n".join(body))


def _page(name: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)}</title>
<style>{STYLE}</style>
<main>
{body}
<footer>mlrec {mlrec.__version__}</footer>
</main>
</html>
"""


def _section(name: str, content: str) -> str:
    return f"<section><h2>{escape(name)}</h2>{content}</section>"


def _curves(runs: Sequence[Run]) -> str:
    metric = str(runs[0].config.get("evaluate", {}).get("select_by", "hr@10"))
    drawn = [
        figures.curves(runs, "train/loss", "Training loss"),
        figures.curves(runs, f"validation/{metric}", f"Validation {metric.upper()}", markers=True),
    ]
    found = "".join(f"<section>{svg}</section>" for svg in drawn if svg)
    return f'<div class="pair">{found}</div>' if found else ""


def _popularity(group: Sequence[Run], runs: Sequence[Run]) -> str:
    content = popularity_table(group)
    if not content.header:
        return ""
    chart = figures.bars(group, "hr@10", "HR@10")
    return _section("HR@10 by popularity of the target", f'{_table(content, runs)}<div class="chart">{chart}</div>')


def _configuration(run: Run) -> str:
    yaml = escape(OmegaConf.to_yaml(run.config))
    return f"<section><details><summary>Configuration of {escape(run.name)}</summary><pre>{yaml}</pre></details></section>"


def _table(content: Table, runs: Sequence[Run]) -> str:
    dots = {run.name: f'<i style="background:{figures.color(index)}"></i>' for index, run in enumerate(runs)}
    head = "".join(f"<th>{dots.get(cell, '')}{escape(cell)}</th>" for cell in (content.corner, *content.header))
    body = "".join(_row(row, dots.get(row.name, "") if row.is_run else "", content.is_numeric) for row in content.rows)
    kind = "figures" if content.is_numeric else "facts"
    return f'<div class="scroll {kind}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(row: Row, dot: str, is_numeric: bool) -> str:
    cells = "".join(
        f'<td class="best">{escape(cell)}</td>' if i in row.best else f"<td>{escape(cell)}</td>"
        for i, cell in enumerate(row.cells)
    )
    kind = ' class="base"' if is_numeric and not row.is_run else ""
    return f"<tr{kind}><th>{dot}{escape(row.name)}</th>{cells}</tr>"
