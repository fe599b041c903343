"""Text of strangers in Markdown and HTML: shown as it is, and never read as a tag, a link or a line of its own."""

from __future__ import annotations

import html
import re

from mlrec.runtime.printable import printable
from mlrec.runtime.terminal import MAX_LINE_CHARACTERS, printable_lines

_SPECIAL_IN_MARKDOWN = re.compile(r"[\\`*\[\]|]")
_STARTS_A_BLOCK = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[#+\-=~:]))")


def in_html(text: object) -> str:
    """Return `text` for HTML, between tags or within a quoted attribute."""
    return html.escape(printable(str(text), MAX_LINE_CHARACTERS), quote=True)


def lines_in_html(text: str) -> str:
    """Return `text` of several lines for HTML."""
    return "\n".join(map(in_html, text.split("\n")))


def in_markdown(text: object) -> str:
    """Return `text` for a heading or a table's cell in Markdown, on one line."""
    return html.escape(
        _SPECIAL_IN_MARKDOWN.sub(r"\\\g<0>", printable(str(text), MAX_LINE_CHARACTERS)), quote=False
    )


def paragraph(text: object) -> str:
    """Return `text` as a paragraph of Markdown: the same, and its beginning starts no list or heading."""
    return _STARTS_A_BLOCK.sub(r"\1\\", in_markdown(text))


def code_block(text: str, language: str) -> str:
    """Return `text` as a block of code in Markdown, with a fence that no line of it closes."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{printable_lines(text)}{fence}"
