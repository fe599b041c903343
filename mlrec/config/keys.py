"""The keys of a configuration: what each means, and the one that a misspelt key meant."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, get_type_hints

from mlrec.config.values import name_of


def near_key(key: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown key: the keys with the same last part, else the nearest, else those of its section.

    Args:
        known: all keys with their sections ("optim", "optim.lr").
    """
    if near := near_keys(key, known):
        return f"; did you mean {' or '.join(map(repr, near))}?"
    section = key.rpartition(".")[0] if _beside(key, known) else ""
    return f"; {section or 'a configuration'} has {', '.join(_beside(key, known) or _beside('', known))}"


def near_keys(key: str, known: Sequence[str]) -> list[str]:
    """The keys that one may have meant: those with the same last part, else the nearest of the section, else of all."""
    section, _, last = key.rpartition(".")
    if near := [other for other in known if _last(other) == last]:
        return near
    if close := difflib.get_close_matches(last, _beside(key, known), n=1):
        return [f"{section}.{close[0]}".lstrip(".")]
    meant = difflib.get_close_matches(last, map(_last, known), n=1, cutoff=0.75)
    return [other for other in known if _last(other) in meant]


def _beside(key: str, known: Sequence[str]) -> list[str]:
    """The last parts of the keys of the same section."""
    section = key.rpartition(".")[0]
    return [_last(other) for other in known if other.rpartition(".")[0] == section]


def _last(key: str) -> str:
    return key.rpartition(".")[2]


@dataclass(frozen=True)
class Key:
    """What is to know of a key."""

    type: str
    default: Any
    description: str


def kinds_of(section: type[Any], prefix: str = "") -> dict[str, Any]:
    """All keys of a section, a dataclass, and the sections within it, each before its keys, with their types."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(section, include_extras=True).items():
        found[prefix + name] = kind
        if is_dataclass(kind):
            found |= kinds_of(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
    return found


def described(section: type[Any], prefix: str = "") -> dict[str, Key]:
    """All keys of a section, a dataclass whose fields have docstrings, and of the sections within it.

    Raises:
        ValueError: a field has no docstring.
    """
    found: dict[str, Key] = {}
    docs, types = _docstrings(section), get_type_hints(section, include_extras=True)
    for field in fields(section):
        key, kind = prefix + field.name, types[field.name]
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if is_dataclass(default):
            found |= described(type(default), f"{key}.")
        elif field.name not in docs:
            raise ValueError(
                f"{key} has no docstring; write one under it in class {section.__name__}"
            )
        else:
            found[key] = Key(name_of(kind), default, docs[field.name])
    return found


def _docstrings(section: type[Any]) -> dict[str, str]:
    """The strings below the fields of a dataclass, each on one line, as they stand in the source."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(declared, ast.ClassDef)
    docs = {}
    for field, below in pairwise(declared.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            docs[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return docs
