"""The keys of a configuration: what each means, and the one that a misspelt key meant."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin, get_type_hints


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


@dataclass(frozen=True)
class Key:
    """What is to know of a key."""

    type: str
    default: Any
    description: str


def described(section: type[Any], prefix: str = "") -> dict[str, Key]:
    """All keys of a section, a dataclass whose fields have docstrings, and of the sections within it.

    Raises:
        ValueError: a field has no docstring.
    """
    found: dict[str, Key] = {}
    docs, types = _docstrings(section), get_type_hints(section)
    for field in fields(section):
        key, kind = prefix + field.name, types[field.name]
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if is_dataclass(default):
            found |= described(type(default), f"{key}.")
        elif field.name not in docs:
            raise ValueError(f"{key} has no docstring; write one under it in class {section.__name__}")
        else:
            kind_name = " | ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else str(field.type)
            found[key] = Key(kind_name, default, docs[field.name])
    return found


def _docstrings(section: type[Any]) -> dict[str, str]:
    """The strings below the fields of a dataclass, each on one line, as they stand in the source."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(declared, ast.ClassDef)
    docs = {}
    for field, below in pairwise(declared.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docs[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return docs
