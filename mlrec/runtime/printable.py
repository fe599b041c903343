"""Text from outside (titles, names, ids, server replies), made safe to show on a terminal."""

from __future__ import annotations

import unicodedata

MAX_CHARACTERS = 300
"""Longer texts are cut where they are quoted in a message."""

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, change the reading direction, or show nothing."""
_JOINERS = frozenset("\u200c\u200d")
"""Zero-width joiners are part of emoji and of several scripts, and harmless."""


def printable(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """Return `text` on one line: control and format characters escaped as in Python, the end cut off.

    Escape sequences and bidirectional overrides become visible, so a hostile title can neither
    recolour a terminal nor hide a part of a message.
    """
    shown = text if len(text) <= max_characters else text[: max_characters - 1] + "…"
    return "".join(
        character if is_printable(character) else _escaped(character) for character in shown
    )


def brief(error: BaseException, max_characters: int = MAX_CHARACTERS) -> str:
    """Return a library's error as a part of a sentence: on one line, the end cut off, without a full stop.

    Libraries quote what they read, which may be of any length, and a remedy behind it would be lost.
    """
    return (
        printable(" ".join(str(error).split()).rstrip("."), max_characters) or type(error).__name__
    )


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: 1 fault, 2,000 faults."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def is_printable(character: str) -> bool:
    """Return whether a terminal shows `character` and does nothing else with it."""
    return character in _JOINERS or unicodedata.category(character) not in _UNSAFE_CATEGORIES


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
