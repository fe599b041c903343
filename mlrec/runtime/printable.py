"""Makes text from outside (titles, names, ids, server replies) safe to show on a terminal."""

from __future__ import annotations

import unicodedata

MAX_CHARACTERS = 300
"""Length at which texts quoted in a message are cut."""

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, change the reading direction, or are invisible."""
_JOINERS = frozenset("\u200c\u200d")
"""Zero-width joiners, which are harmless parts of emoji and of several scripts."""


def printable(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """Return `text` on one line, cut off, with control and format characters escaped.

    Escape sequences and bidirectional overrides become visible, so a hostile title can neither
    recolour a terminal nor hide a part of a message.
    """
    # Cut first: escapes make a text up to ten times as long.
    shown = text if len(text) <= max_characters else text[: max_characters - 1] + "…"
    return "".join(
        character if is_printable(character) else _escaped(character) for character in shown
    )


def shortened(name: str, max_columns: int) -> str:
    """Return a name for a label in a figure, printable, with "…" in the middle if it is long.

    Both ends stay, because names of one sweep often differ at their end.

    Args:
        max_columns: Width of the label. Wide characters, such as Chinese ones, take two columns.
    """
    shown = printable(name)
    if sum(map(_columns, shown)) <= max_columns:
        return shown
    head = _fitting(shown, max_columns - max_columns // 2 - 1)
    tail = _fitting(shown[::-1], max_columns // 2)[::-1]
    return f"{head}…{tail}"


def _fitting(text: str, max_columns: int) -> str:
    """Return the start of a text that fits into the columns."""
    columns = 0
    for place, character in enumerate(text):
        columns += _columns(character)
        if columns > max_columns:
            return text[:place]
    return text


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def brief(error: BaseException, max_characters: int = MAX_CHARACTERS) -> str:
    """Return a library's error as part of a sentence: one line, cut off, without a full stop.

    Libraries quote what they read, of any length. A remedy after it would not be seen.
    """
    one_line = " ".join(str(error).split()).rstrip(".")
    return printable(one_line, max_characters) or type(error).__name__


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: 1 fault, 2,000 faults."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def as_cell(text: str) -> str:
    """Return a text as --history takes it: with a comma or a quote, in double quotes."""
    if not any(mark in text for mark in ',"'):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def are(count: int) -> str:
    """Return the verb of a count: 1 row is, 2 rows are."""
    return "is" if count == 1 else "are"


def were(count: int) -> str:
    """Return the verb of a count in the passive voice: 1 row was, 2 rows were."""
    return "was" if count == 1 else "were"


def is_printable(character: str) -> bool:
    """Return whether a terminal only shows `character`, and does not act on it."""
    return character in _JOINERS or unicodedata.category(character) not in _UNSAFE_CATEGORIES


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
