"""Descriptions of keys for `mlrec list keys`: type, default and docstring of the field."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, get_type_hints

from mlrec.config.kinds import name_of


@dataclass(frozen=True)
class Key:
    """Description of a key."""

    type: str
    default: Any
    description: str


def described(section: type[Any], prefix: str = "") -> dict[str, Key]:
    """Return all keys of a dataclass whose fields have docstrings, and of the sections within it.

    Raises:
        ValueError: a field has no docstring.
    """
    described_keys: dict[str, Key] = {}
    docs = _field_docstrings(section)
    kinds = get_type_hints(section, include_extras=True)
    for field in fields(section):
        key = prefix + field.name
        default = field.default if field.default_factory is MISSING else field.default_factory()
        # sections are described by their keys
        if is_dataclass(default):
            described_keys |= described(type(default), f"{key}.")
            continue
        if field.name not in docs:
            raise ValueError(
                f"{key} has no docstring; write one under it in class {section.__name__}"
            )
        described_keys[key] = Key(name_of(kinds[field.name]), default, docs[field.name])
    return described_keys


def first_sentence(documented: Any) -> str:
    """Return the first sentence of a docstring on one line; it may span several in the source."""
    paragraph = " ".join((documented.__doc__ or "").strip().partition("\n\n")[0].split())
    # "et al.," is followed by a comma
    sentence = re.match(r".*?\.(?= |$)", paragraph)
    return sentence[0] if sentence else paragraph


def _field_docstrings(section: type[Any]) -> dict[str, str]:
    """Return the docstrings of a dataclass's fields, each on one line."""
    # Python keeps no docstrings of fields, so they are read from the source
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(declared, ast.ClassDef)
    docs = {}
    for statement, below in pairwise(declared.body):
        if isinstance(statement, ast.AnnAssign) and _is_text(below):
            name = ast.unparse(statement.target)
            # the docstring has line breaks and an indent in the source
            docs[name] = " ".join(ast.literal_eval(ast.unparse(below)).split())
    return docs


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
