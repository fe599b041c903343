"""Links in the project's Markdown point to files and headings that exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from readmes import READMES, ROOT, name_of, without_blocks

FOLDERS = ("configs", "launch", "mlrec", "shards_tools", "tests")
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
)

LINK = re.compile(r"\]\(\s*<?([^)\s>]+)[^)]*\)|(?:src|srcset|href)=\"([^\"]+)\"")
"""The target of a link or picture, in Markdown or HTML."""

ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:|//")
"""How a link to another site begins."""


def without_code(text: str) -> str:
    """Return a text of Markdown without code blocks and `code`."""
    return re.sub(r"`[^`]*`", "", without_blocks(text))


def headings(text: str, level: str = "#{1,6}") -> list[str]:
    """Return the headings of a text."""
    return re.findall(rf"^{level} +(.+?) *#*$", without_blocks(text), re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a text."""
    counts: Counter[str] = Counter()
    names = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in headings(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names.add(anchor if not counts[anchor] else f"{anchor}-{counts[anchor]}")
        counts[anchor] += 1
    return names


def fault(document: Path, target: str) -> str | None:
    """Return what is wrong with a relative link of a document."""
    place, _, anchor = target.partition("#")
    path = document.parent / place if place else document
    if not path.exists():
        return f"{target}: no such file"
    if anchor and anchor not in anchors(path.read_text()):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_document_links_point_to_files_and_headings(document: Path) -> None:
    targets = ["".join(pair) for pair in LINK.findall(without_code(document.read_text()))]
    relative = [target for target in targets if not ELSEWHERE.match(target)]
    faults = [message for target in relative if (message := fault(document, target))]
    assert not faults, f"{name_of(document)} links to {'; '.join(faults)}"


@pytest.mark.parametrize("document", READMES[1:], ids=name_of)
def test_folder_readme_begins_with_a_sentence_and_links_to_its_sections(document: Path) -> None:
    title, sentence, *_ = document.read_text().split("\n\n")
    assert title.startswith("# ") and "\n#" not in title
    assert sentence.count(". ") == 0 and sentence.endswith(".")
    contents = document.read_text().partition("\n## ")[0]
    for heading in headings(document.read_text(), level="##"):
        (anchor,) = anchors(f"## {heading}")
        assert f"](#{anchor})" in contents, f"{name_of(document)} does not list {heading!r}"


def test_anchors_follow_github() -> None:
    text = "# `item.tuning=top`: the last stage\n## The paper's tables\n## A & b\n## A & b\n"
    assert anchors(text + "```\n# not a heading\n```\n") == {
        "itemtuningtop-the-last-stage",
        "the-papers-tables",
        "a--b",
        "a--b-1",
    }


def test_fault_names_missing_files_and_headings(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One\n")
    assert fault(tmp_path / "a.md", "#one") is None
    assert fault(tmp_path / "a.md", "a.md#two") == "a.md#two: no such heading"
    assert fault(tmp_path / "a.md", "b.md") == "b.md: no such file"
