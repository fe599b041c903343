"""Anchors of a page's sections, and the table of contents that links to them."""

from __future__ import annotations

import re
from typing import NamedTuple

from markupsafe import Markup

_HEADING = re.compile(r"<section><h2>(.*?)</h2>")
_NO_LETTERS = re.compile(r"[^a-z0-9]+")


class Entry(NamedTuple):
    """A section in the table of contents."""

    anchor: str
    heading: Markup


class Contents(NamedTuple):
    """The sections of a page."""

    entries: list[Entry]
    sections: Markup
    """The page's sections, each with its anchor."""


def contents(sections: Markup) -> Contents:
    """Give each section with a heading an anchor.

    Args:
        sections: HTML that a template printed, so that its texts are escaped.
    """
    entries: list[Entry] = []

    def anchored(match: re.Match[str]) -> str:
        heading = Markup(match[1])
        anchor = _NO_LETTERS.sub("-", heading.unescape().lower()).strip("-")
        # two data sets may have the same name in these letters
        if any(entry.anchor == anchor for entry in entries):
            anchor = f"{anchor}-{len(entries)}"
        entries.append(Entry(anchor, heading))
        return f'<section id="{anchor}"><h2>{heading}</h2>'

    return Contents(entries, Markup(_HEADING.sub(anchored, sections)))
