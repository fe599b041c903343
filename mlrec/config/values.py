"""Text from YAML files and command lines as values of declared types: text stays text, numbers are strict.

YAML 1.1 turns 0123 into 83, 1_000 into 1000, 12:30 into 750 and yes into true. Here a scalar keeps its text until the
type of its key is known.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from yaml import ScalarNode
from yaml.resolver import Resolver

from mlrec.config.bounds import INT64
from mlrec.runtime.credentials import check_no_credentials
from mlrec.runtime.printable import printable
from mlrec.runtime.redact import is_secret_name

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,29}")
_NUMBER = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_MAX_NUMBER_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 4096
_RESOLVER: Any = Resolver()
"""Knows what YAML 1.1 takes for a number, a date or a truth value."""
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Scalar:
    """A value as it was written."""

    text: str
    quoted: bool = False
    """In quotes or as a block, in YAML: a text, whatever it looks like."""


Node: TypeAlias = "Scalar | list[Node] | dict[str, Node]"


def typed(node: Node, kind: Any, key: str) -> Any:
    """Return what was written for `key` as a value of `kind`.

    Raises:
        ValueError: it does not fit; the message names the key, the value and how to write it.
    """
    if isinstance(node, Scalar):
        check_text(node.text, key)
        if node == Scalar(""):
            empty = (
                """; an empty one is "" in a file and '""' in a shell"""
                if kind in (str, Any)
                else ""
            )
            raise ValueError(f"{key} has no value; it must be {in_words(kind)}{empty}")
    try:
        return _parsed(node, kind, key)
    except _MisfitError as error:
        raise ValueError(f"{key} is {shown(node)}{_remedy(node, kind, key)}") from error


class _MisfitError(Exception):
    """A value is not of the kind."""


def check_text(text: str, key: str) -> None:
    """
    Raises:
        ValueError: the text is too long or does not print, or holds an interpolation or credentials.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(
            f"{key} has {len(text):,} characters; it must have at most {MAX_TEXT_CHARACTERS:,}"
        )
    if "${" in text:
        raise ValueError(
            f"{key} is {shown(Scalar(text))}; ${{...}} is not replaced in a configuration, write the value itself"
        )
    check_no_credentials(text, key)
    if printable(text, MAX_TEXT_CHARACTERS) != text:
        raise ValueError(
            f"{key} is {shown(Scalar(text))}; it must not hold line breaks or characters that do not print"
        )


def _parsed(node: Node, kind: Any, key: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return _plain(node, key)
    if origin is Annotated:
        return _bounded(_parsed(node, arguments[0], key), arguments[1:])
    if origin in (Union, types.UnionType):
        (other,) = (one for one in arguments if one is not types.NoneType)
        return None if node == Scalar("null") else _parsed(node, other, key)
    if origin is tuple:
        return _parsed_list(node, arguments, key)
    if isinstance(node, Scalar):
        return _parsed_scalar(node, kind)
    raise _MisfitError


def _bounded(value: Any, bounds: tuple[Any, ...]) -> Any:
    if not all(bound.holds(value) for bound in bounds):
        raise _MisfitError
    return value


def _parsed_list(node: Node, kinds: tuple[Any, ...], key: str) -> tuple[Any, ...]:
    if not isinstance(node, list):
        raise _MisfitError
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(node)
    if len(kinds) != len(node):
        raise _MisfitError
    for one in node:
        if isinstance(one, Scalar):
            check_text(one.text, key)
    return tuple(_parsed(one, kind, key) for one, kind in zip(node, kinds, strict=True))


def _parsed_scalar(node: Scalar, kind: Any) -> Any:
    if kind is str:
        return node.text
    if get_origin(kind) is Literal:
        choices = {str(choice): choice for choice in get_args(kind)}
        if node.text in choices:
            return choices[node.text]
    if not node.quoted:
        if kind is bool and node.text in ("true", "false"):
            return node.text == "true"
        if kind is int and _WHOLE.fullmatch(node.text):
            return int(node.text)
        if kind is float and (value := _as_number(node.text)) is not None:
            return value
    raise _MisfitError


def is_number(text: str) -> bool:
    """Return whether an unquoted text is read as a number."""
    return _as_number(text) is not None


def _as_number(text: str) -> float | None:
    """The number; None for what is no finite number, or is rounded to 0."""
    if len(text) > _MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    underflows = value == 0 and re.search("[1-9]", re.split("[eE]", text)[0]) is not None
    return None if underflows or not math.isfinite(value) else value


def _plain(node: Node, key: str) -> Any:
    """A value of an option whose type a library knows: JSON's numbers, true, false and null; all else is text.

    Raises:
        ValueError: it looks like a number, a date or the like, but only to YAML.
    """
    if isinstance(node, list):
        return [_plain(one, key) for one in node]
    if isinstance(node, dict):
        return {name: _plain(one, f"{key}.{name}") for name, one in node.items()}
    check_text(node.text, key)
    text = node.text
    if not node.quoted:
        if text in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[text]
        if _WHOLE.fullmatch(text) and abs(int(text)) <= INT64:
            return int(text)
        if (value := _as_number(text)) is not None and not _WHOLE.fullmatch(text):
            return value
        if _RESOLVER.resolve(ScalarNode, text, (True, False)) != "tag:yaml.org,2002:str":
            raise ValueError(
                f"{key} is {shown(node)}; write a number like 8 or 0.5, true, false or null, or put a text in quotes"
            )
    if is_secret_name(key.rpartition(".")[2]):
        raise ValueError(
            f"{key} would be kept in the run's folder; leave it out and set an environment variable such as HF_TOKEN"
        )
    return text


def check_typed(value: Any, kind: Any, key: str) -> None:
    """Check a value that did not come from a text.

    Raises:
        ValueError: it is of another type or out of its bounds; the message names key, value and what it must be.
    """
    if not _fits(value, kind):
        raise ValueError(f"{key} is {value!r}; it must be {in_words(kind)}")


def _fits(value: Any, kind: Any) -> bool:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is Annotated:
        return _fits(value, arguments[0]) and all(bound.holds(value) for bound in arguments[1:])
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, list | tuple) and _fit_one_by_one(value, arguments)
    if is_typeddict(kind):
        kinds = get_type_hints(kind, include_extras=True)
        return isinstance(value, Mapping) and all(
            name in kinds and _fits(one, kinds[name]) for name, one in value.items()
        )
    if origin is dict:
        return isinstance(value, Mapping) and all(
            isinstance(name, str) and _fits(one, arguments[1]) for name, one in value.items()
        )
    if kind is float:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


def _fit_one_by_one(values: list[Any] | tuple[Any, ...], kinds: tuple[Any, ...]) -> bool:
    if kinds[-1] is ...:
        return all(_fits(value, kinds[0]) for value in values)
    return len(values) == len(kinds) and all(map(_fits, values, kinds))


_COUNTS_IN_WORDS = {2: "two", 3: "three"}


def in_words(kind: Any) -> str:
    """Return what a value of a key's type is, or what a section is, for a user."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return " ".join([in_words(arguments[0]), *map(str, arguments[1:])])
    if origin in (Union, types.UnionType):
        return f"{in_words(next(one for one in arguments if one is not types.NoneType))}, or null"
    if is_dataclass(kind):
        return f"a section with {', '.join(field.name for field in fields(kind))}"
    if is_typeddict(kind):
        return f"options with their values: {', '.join(sorted(get_type_hints(kind)))}"
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple and arguments[-1] is ...:
        return "a list of names, such as [id/embedding]"
    if origin is tuple:
        example = {2: "[0.9, 0.999]", 3: "[0.5, 0.5, 0.5]"}[len(arguments)]
        bounds = f" {arguments[0].__metadata__[0]}" if get_origin(arguments[0]) is Annotated else ""
        return f"a list of {_COUNTS_IN_WORDS[len(arguments)]} numbers{bounds}, such as {example}"
    if origin is dict and arguments[1] is not Any:
        return "options of each encoder, such as {id/embedding: {dropout: 0.3}}"
    if origin is dict:
        return "options with their values, such as {layers: 2}"
    return {
        str: "a text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        Any: "a number, a text, true, false, null, a list or a mapping",
    }[kind]


def name_of(kind: Any) -> str:
    """Return the type of a key as `mlrec list keys` shows it."""
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) is Annotated:
        return name_of(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return (
            f"tuple[{', '.join('...' if one is ... else name_of(one) for one in get_args(kind))}]"
        )
    if is_typeddict(kind):
        return "options"
    if get_origin(kind) is dict:
        return f"dict[str, {name_of(get_args(kind)[1])}]"
    return "Any" if kind is Any else str(kind.__name__)


def shown(node: Node) -> str:
    """Return a value for a message: numbers as they are, texts in quotes."""
    if isinstance(node, Scalar):
        number = not node.quoted and _as_number(node.text) is not None
        text = (
            node.text
            if number or (node.text in ("true", "false", "null") and not node.quoted)
            else repr(node.text)
        )
    elif isinstance(node, list):
        text = f"[{', '.join(map(shown, node))}]"
    else:
        text = f"{{{', '.join(f'{name}: {shown(one)}' for name, one in node.items())}}}"
    return printable(text, _SHOWN_CHARACTERS)


_PLAIN = re.compile(r"[\w./+-][\w./+:~-]*", re.ASCII)


def is_structured(kind: Any) -> bool:
    """Return whether values of this kind are written as YAML on a command line; of all others the text is the value."""
    if get_origin(kind) in (Union, types.UnionType):
        return any(is_structured(one) for one in get_args(kind) if one is not types.NoneType)
    return (
        kind is Any
        or kind is None
        or get_origin(kind) in (tuple, dict)
        or is_typeddict(kind)
        or is_dataclass(kind)
    )


def as_argument(node: Node, kind: Any) -> str:
    """Return what stands after "=" on a command line to give a key of this kind the value of the node."""
    if isinstance(node, Scalar) and not is_structured(kind):
        return node.text or ('""' if node.quoted else "")
    return _flow(node)


def _flow(node: Node) -> str:
    """A value as YAML on one line."""
    if isinstance(node, list):
        return f"[{', '.join(map(_flow, node))}]"
    if isinstance(node, dict):
        return (
            f"{{{', '.join(f'{_flow(Scalar(name))}: {_flow(one)}' for name, one in node.items())}}}"
        )
    return (
        node.text
        if not node.quoted and _PLAIN.fullmatch(node.text)
        else json.dumps(node.text, ensure_ascii=False)
    )


def _remedy(node: Node, kind: Any, key: str) -> str:
    if get_origin(kind) is tuple and isinstance(node, Scalar):
        return f", which is no list; write {key}=[{printable(node.text, _SHOWN_CHARACTERS)}]"
    return f"; it must be {in_words(kind)}{_how_to_write(node, kind)}"


def _how_to_write(node: Node, kind: Any) -> str:
    """How to write a number that was written oddly: 010, 1_000, +5, 1e3 or with quotes."""
    while get_origin(kind) in (Annotated, Union, types.UnionType):
        kind = get_args(kind)[0]
    if not isinstance(node, Scalar) or not any(character.isdigit() for character in node.text):
        return ""
    if kind is int and (node.quoted or not _WHOLE.fullmatch(node.text)):
        return ", written in plain digits, such as 8"
    if kind is float and (node.quoted or _as_number(node.text) is None):
        return ", written like 0.5, 8 or 1e-4"
    return ""
