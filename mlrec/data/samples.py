"""Samples as the item store delivers them: members by name, or why they could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

TITLE = "txt"
"""Member that is never read from a shard, because the catalogue holds all titles in memory."""
_OPTIONAL = frozenset({"flac", "cover.jpg"})
"""Members that a sample may lack: silence and a black image take their place."""
_FEATURES_ENDING = ".npy"
"""Ending of the members of features. Zeros take the place of one that a sample lacks."""


class Sample(NamedTuple):
    """One item and its members."""

    item: int
    members: Mapping[str, bytes] | str
    """Content by member name, or the reason why the item could not be read."""


class BadItemError(Exception):
    """An item that could not be read or decoded; the message is the reason."""


def stored(names: Iterable[str]) -> list[str]:
    """Return the names of the members that are read from shards."""
    return [name for name in names if name != TITLE]


def is_optional(name: str) -> bool:
    """Return whether a sample may lack a member of this name."""
    return name in _OPTIONAL or name.endswith(_FEATURES_ENDING)
