"""The keys of a configuration: the one that a misspelt key meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def near_key(key: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown key: the keys with the same last part, else the nearest, else those of its section.

    Args:
        known: all keys with their sections ("optim", "optim.lr").
    """
    section, _, last = key.rpartition(".")
    beside = [_last(other) for other in known if other.rpartition(".")[0] == section]
    near = [other for other in known if _last(other) == last]
    if not near:
        near = [f"{section}.{other}".lstrip(".") for other in difflib.get_close_matches(last, beside, n=1)]
    if not near:
        meant = difflib.get_close_matches(last, map(_last, known), n=1, cutoff=0.75)
        near = [other for other in known if _last(other) in meant]
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; {section or 'a configuration'} has {', '.join(beside)}"


def _last(key: str) -> str:
    return key.rpartition(".")[2]
