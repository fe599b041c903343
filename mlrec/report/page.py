"""The parts of a page that needs no network: its style, sections, tables and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

import mlrec
from mlrec.report.escape import in_html
from mlrec.report.tables import Row, Table

STYLE = """
:root {
  color-scheme: light dark;
  --text: #1d2129; --soft: #667085; --line: #dfe3ea; --page: #f6f7f9; --card: #ffffff; --mark: #e9f1ff; --hit: #16955f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e8ec; --soft: #98a1b0; --line: #333a45; --page: #12151a; --card: #1a1e25; --mark: #22324d; --hit: #35c88a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2rem 1rem 3rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .75rem; }
h3 { font-size: .95rem; margin: 1.5rem 0 .25rem; }
p { overflow-wrap: anywhere; }
.lead { font-size: 1.05rem; margin: 0 0 1.5rem; color: var(--soft); }
.soft { color: var(--soft); font-size: .9rem; margin: .75rem 0 0; }
h2 + .soft { margin-top: -.5rem; }
.note { border-left: 3px solid #e0a030; padding: .25rem .75rem; margin: 0 0 .75rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.2rem; margin: 0 0 1rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1rem; margin-bottom: 1rem; }
.pair > section { min-width: 0; margin: 0; }
.chart { max-width: 34rem; margin: 1.25rem auto 0; }
.chart.wide { max-width: 46rem; }
.scroll { overflow-x: auto; }
.tall { max-height: 32rem; overflow-y: auto; margin-bottom: 1rem; border-bottom: 1px solid var(--line); }
.tall thead th { position: sticky; top: 0; background: var(--card); }
.tall thead th:first-child { z-index: 1; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .5rem 0 0; font-size: .85rem; }
.strip { display: flex; gap: .6rem; padding: .25rem .15rem .4rem; }
.strip figure { flex: none; width: 5.25rem; margin: 0; }
.strip .next { margin-left: 1.1rem; position: relative; }
.strip .next::before { content: "→"; position: absolute; left: -1.15rem; top: 1.5rem; color: var(--soft); }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1.1rem .9rem; }
.soft + .sheet { margin-top: 1rem; }
.sheet figure { margin: 0; min-width: 0; }
.sheet img { aspect-ratio: auto; height: auto; }
img, .blank { display: block; width: 100%; aspect-ratio: 1; border-radius: 6px; background: var(--line); }
figcaption { font-size: .72rem; line-height: 1.3; margin-top: .3rem; color: var(--soft); overflow-wrap: anywhere; }
.strip figcaption { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
.hit img, .hit .blank { outline: 3px solid var(--hit); outline-offset: 1px; }
.hit figcaption, .hit-text { color: var(--hit); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child { position: sticky; left: 0; text-align: left; padding-left: 0; background: var(--card); }
thead th { color: var(--soft); font-weight: 500; font-size: .85rem; vertical-align: bottom; }
thead th:first-child { white-space: normal; }
tbody th { font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
tr.base > * { color: var(--soft); font-weight: 400; }
td.best { font-weight: 700; background: var(--mark); }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; max-width: 26rem; }
.facts td { vertical-align: top; }
.facts thead th { text-align: left; white-space: nowrap; }
.facts tbody th { font-weight: 500; vertical-align: top; }
@media (max-width: 40rem) {
  main { padding: 1.25rem .6rem 2rem; }
  section { padding: .9rem .8rem; }
  th:first-child { min-width: 7.5rem; max-width: 11rem; white-space: normal; overflow-wrap: break-word; }
}
i { display: inline-block; width: .65em; height: .65em; border-radius: 50%; margin-right: .5em; }
svg { display: block; width: 100%; height: auto; }
summary { cursor: pointer; font-weight: 600; }
details details { margin-top: .6rem; }
details details summary { font-weight: 400; }
pre { overflow-x: auto; font-size: .82rem; margin: .75rem 0 0; }
footer { color: var(--soft); font-size: .85rem; }
"""


MADE_BY = "mlrec "
"""What a footer begins with; the version follows."""
MANY_ROWS = 24
"""A table of more scrolls within its box."""


def page(name: str, body: Iterable[str]) -> str:
    """The whole document."""
    content = "\n".join(part for part in body if part)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{in_html(name)}</title>
<style>{STYLE}</style>
<main>
{content}
<footer>{MADE_BY}{mlrec.__version__}</footer>
</main>
</html>
"""


def section(name: str, content: str) -> str:
    """A card with a heading."""
    return f"<section><h2>{in_html(name)}</h2>{content}</section>"


def soft(text: str) -> str:
    """A sentence that explains."""
    return f'<p class="soft">{in_html(text)}</p>'


def chart(svg: str, wide: bool = False) -> str:
    """A figure within a section; nothing for none."""
    return f'<div class="chart{" wide" if wide else ""}">{svg}</div>' if svg else ""


def side_by_side(figures: Iterable[str]) -> str:
    """Figures in cards of their own, next to each other where there is room; nothing for none."""
    cards = "".join(f"<section>{svg}</section>" for svg in figures if svg)
    return f'<div class="pair">{cards}</div>' if cards else ""


def picture(jpeg: bytes | None, caption: str, kind: str = "") -> str:
    """An item with its caption; a blank field in the place of a picture that is not there."""
    image = '<div class="blank"></div>'
    if jpeg is not None:
        image = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
    return f'<figure class="{kind}">{image}<figcaption title="{in_html(caption)}">{in_html(caption)}</figcaption></figure>'


def strip(figures: Iterable[str]) -> str:
    """Pictures in a row that scrolls within its box."""
    return f'<div class="scroll"><div class="strip">{"".join(figures)}</div></div>'


def table(content: Table, colors: Mapping[str, str] | None = None) -> str:
    """A table that scrolls within its box; names in `colors` get a dot of their colour."""
    dots = {name: f'<i style="background:{color}"></i>' for name, color in (colors or {}).items()}
    cells = (content.corner, *content.header)
    head = (
        "".join(f"<th>{dots.get(cell, '')}{in_html(cell)}</th>" for cell in cells)
        if any(cells)
        else ""
    )
    body = "".join(
        _row(row, dots.get(row.name, "") if row.is_run else "", content.is_numeric)
        for row in content.rows
    )
    kind = ("figures" if content.is_numeric else "facts") + (
        " tall" if len(content.rows) > MANY_ROWS else ""
    )
    return f'<div class="scroll {kind}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(row: Row, dot: str, is_numeric: bool) -> str:
    cells = "".join(
        f'<td class="best">{in_html(cell)}</td>' if i in row.best else f"<td>{in_html(cell)}</td>"
        for i, cell in enumerate(row.cells)
    )
    kind = ' class="base"' if is_numeric and not row.is_run else ""
    return f"<tr{kind}><th>{dot}{in_html(row.name)}</th>{cells}</tr>"
