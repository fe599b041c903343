"""Texts from elsewhere in Markdown and HTML: shown as they are, never read as markup."""

from __future__ import annotations

import html
import re

from markupsafe import Markup, escape

from mlrec.runtime.printable import printable
from mlrec.runtime.terminal import MAX_LINE_CHARACTERS, printable_lines

# "<" and "&" are left to html.escape, and an underscore within a word starts no emphasis
_SPECIAL_IN_MARKDOWN = re.compile(r"[\\`*\[\]|]")
_STARTS_A_BLOCK = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[#+\-=~:]))")


def harmless(text: object) -> Markup:
    """Return `text` escaped for HTML, between tags or within a quoted attribute."""
    return escape(printable(str(text), MAX_LINE_CHARACTERS))


def in_markdown(text: object) -> str:
    """Return `text` for a heading or a table cell in Markdown, on one line."""
    line = printable(str(text), MAX_LINE_CHARACTERS)
    return html.escape(_SPECIAL_IN_MARKDOWN.sub(r"\\\g<0>", line), quote=False)


def paragraph(text: object) -> str:
    """Return `text` as a paragraph of Markdown that starts no list and no heading."""
    # "1." becomes "1\.", because Markdown takes a backslash before a digit literally
    return _STARTS_A_BLOCK.sub(r"\1\\", in_markdown(text))


def code(text: str) -> str:
    """Return `text` as code within a line of Markdown, which is shown verbatim."""
    line = printable(text, MAX_LINE_CHARACTERS)
    fence = _fence(line, 1)
    # Markdown removes one space on both sides, which keeps backticks of the text from the fence
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def code_block(text: str, language: str) -> str:
    """Return `text` as a block of code in Markdown, with a fence that none of its lines closes."""
    fence = _fence(text, 3)
    return f"{fence}{language}\n{printable_lines(text)}{fence}"


def _fence(text: str, min_length: int) -> str:
    """Return more backticks than the text has in a row."""
    longest_run = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(min_length, longest_run + 1)
