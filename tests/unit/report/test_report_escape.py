"""Reports show hostile names, titles and reasons as plain text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from made_runs import make_recommending, make_run

import mlrec.report.report
from mlrec.cli.main import run_command
from mlrec.report.escape import code, code_block, harmless, in_markdown, paragraph
from mlrec.report.page import breakable
from mlrec.report.report import short_table, write_report
from mlrec.runs.recommendations import Example, Recommended, write_recommended

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "a|b\\|c",
    "[x](javascript:alert(1))",
    "`code` **bold**",
    "x[/]y",
    "$\\frac{",
    "$x$ $y$",
    "\x1b]0;owned\x07\x1b[31mred",
    "one\ntwo\r\n# three",
    "a\u202eb\u2028c",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "&lt;b&gt;",
    "\ud800",
    "{{ 7 * 7 }}",
]
TAGS = {
    "html",
    "meta",
    "title",
    "style",
    "main",
    "footer",
    "section",
    "h1",
    "h2",
    "h3",
    "p",
    "div",
    "table",
    "thead",
    "tbody",
}
TAGS |= {"tr", "th", "td", "span", "i", "details", "summary", "pre", "figure", "figcaption", "img"}
TAGS |= {"nav", "a", "small", "script", "wbr"}
SVG_TAGS = {
    "svg",
    "g",
    "path",
    "text",
    "defs",
    "use",
    "clippath",
    "rect",
    "style",
    "tspan",
    "lineargradient",
    "stop",
}
ACTED_ON = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028\ud800]")


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        assert not any((value or "").lower().startswith("javascript:") for _, value in attrs)
        # links lead to the page's own sections
        assert all((value or "").startswith("#") for name, value in attrs if name == "href")


def assert_page_is_harmless(text: str) -> None:
    tags = Tags(text)
    assert tags.tags <= TAGS | SVG_TAGS
    assert not [name for name in tags.attributes if name.startswith("on")]
    # the page's own script
    assert text.count("<script") == 1
    assert not ACTED_ON.search(text)


def assert_markdown_is_harmless(text: str) -> None:
    outside = re.sub(r"^(`{3,})yaml\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<" not in outside
    assert "](" not in outside.replace("\\]", "")
    assert not ACTED_ON.search(text)
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    for line in outside.splitlines():
        assert line.startswith(("|", "#")) or "|" not in line.replace("\\|", "")
    for before, after in pairwise(rows):
        if after.startswith("| ---"):
            assert columns(before) == columns(after)


def columns(row: str) -> int:
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", row))


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def hostile_run(folder: Path, text: str) -> Path:
    """Write a run in which every text that may come from outside is `text`."""
    run = make_recommending(folder, {7: (4, 3)})
    info = json.loads((run / "run.json").read_text())
    info |= {"commit": text, "hardware": text, "versions": {text: text}}
    info["dataset"] |= {"name": text, "url": text}
    (run / "run.json").write_text(json.dumps(info))
    counts = {name: {"cold": 1} for name in ("recommended", "targets", "catalogue")}
    titles = {item: text.encode(errors="replace").decode() for item in range(9)}
    write_recommended(
        run, Recommended("test", 1, counts, (Example(7, (1, 2), 3, 1, (4, 3)),), titles)
    )
    return run


@pytest.mark.parametrize(
    "hostile", [text for text in HOSTILE if text != "\ud800"]
)  # run.json cannot hold it
def test_reports_hostile_texts_are_shown_and_nothing_else(
    hostile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        hostile_run(tmp_path / "a", hostile),
        make_run(tmp_path / "b", 2.0, fingerprint="e" * 64),
    ]
    out = write_report(runs, tmp_path / "report.html")
    page, text = out.read_text(), out.with_suffix(".md").read_text()
    assert_page_is_harmless(page)
    assert_markdown_is_harmless(text)
    assert harmless(hostile) in page
    assert in_markdown(hostile) in text
    assert not ACTED_ON.search(short_table(runs))
    run_command(["report", *map(str, runs), "--out", str(out), "--table", "baselines"])
    assert not ACTED_ON.search(capsys.readouterr().out)


@pytest.mark.parametrize(
    "name", [name for name in HOSTILE if "/" not in name and "\ud800" not in name]
)
def test_reports_hostile_folder_names_are_shown_and_nothing_else(name: str, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "plain"), make_run(tmp_path / "other", 2.0)]
    runs[0] = runs[0].rename(tmp_path / name)
    out = write_report(runs, tmp_path / "report.html")
    assert_page_is_harmless(out.read_text())
    assert_markdown_is_harmless(out.with_suffix(".md").read_text())
    assert len({len(line) for line in short_table(runs).splitlines()}) == 1


def test_paragraphs_hostile_beginnings_start_no_block() -> None:
    starts = [
        "# x",
        "- x",
        "+ x",
        "* x",
        "1. x",
        "12) x",
        "=== x",
        "> x",
        "~~~ x",
        "``` x",
        "| x",
        ": x",
    ]
    assert [
        paragraph(text)[0] in "\\&" or paragraph(text)[1:3].count("\\") == 1 for text in starts
    ] == [True] * len(starts)
    assert paragraph("0.5000 is fine 1. x") == "0.5000 is fine 1. x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("evaluate.cutoffs=[5,10] <a> *b*", "`evaluate.cutoffs=[5,10] <a> *b*`"),
        ("a `` b", "```a `` b```"),
        ("`a`", "`` `a` ``"),
    ],
)
def test_code_shows_a_command_verbatim(text: str, shown: str) -> None:
    assert code(text) == shown


def test_code_blocks_hostile_fences_do_not_close_them() -> None:
    block = code_block("a: |\n  ```\n  <script>\n````\n", "yaml")
    assert block.startswith("`````yaml\n") and block.endswith("\n`````")


def test_report_source_declares_text_safe_in_few_places_only() -> None:
    folder = Path(mlrec.report.report.__file__).parent
    declaring = {path.name for path in folder.glob("*.py") if "Markup(" in path.read_text()}
    # style, script and pictures; what matplotlib and a template have escaped; constant markers
    assert declaring == {"page.py", "svg.py", "contents.py", "palette.py"}
    templates = [*folder.glob("templates/*.html")]
    assert templates and not [path.name for path in templates if "safe" in path.read_text()]


def test_breakable_name_breaks_after_separators_and_is_escaped() -> None:
    assert breakable("a_b/<i>_seed0_") == "a_<wbr>b/<wbr>&lt;i&gt;_<wbr>seed0_"
