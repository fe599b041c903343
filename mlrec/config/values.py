"""Read what was written as a value of its key's type, and check values that come from Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, is_typeddict

from mlrec.config.kinds import (
    in_words,
    inner_kind,
    is_optional,
    is_structured,
    is_word_or_number,
    without_none,
)
from mlrec.config.scalars import (
    MAX_SHOWN_CHARACTERS,
    Node,
    Scalar,
    as_flow_yaml,
    as_json_value,
    as_number,
    as_whole_number,
    check_text,
    shown,
)
from mlrec.runtime.printable import printable
from mlrec.runtime.redact import is_secret_name


class _MisfitError(Exception):
    """A value that does not fit the type of its key."""


def typed(node: Node, kind: Any, key: str) -> Any:
    """Return what was written for `key` as a value of `kind`.

    Raises:
        ValueError: it does not fit; the message names the key, the value and how to write it.
    """
    if isinstance(node, Scalar):
        check_text(node.text, key)
        # seed: in a file or seed= in a shell is a forgotten value, not an empty text
        if node.is_empty:
            raise ValueError(f"{key} has no value; it must be {in_words(kind)}{_empty_text(kind)}")
    try:
        return _parsed(node, kind, key)
    except _MisfitError as error:
        raise ValueError(f"{key} is {shown(node)}{_remedy(node, kind, key)}") from error


def _parsed(node: Node, kind: Any, key: str) -> Any:
    arguments = get_args(kind)
    if kind is Any:
        return _parsed_freely(node, key)
    if get_origin(kind) is Annotated:
        value = _parsed(node, arguments[0], key)
        if not _is_within(value, arguments[1:]):
            raise _MisfitError
        return value
    if is_optional(kind):
        # only the bare word is None; "null" in quotes is a text
        return None if node == Scalar("null") else _parsed(node, without_none(kind), key)
    if is_word_or_number(kind):
        words, number = arguments
        is_word = isinstance(node, Scalar) and node.text in get_args(words)
        return _parsed(node, words if is_word else number, key)
    if get_origin(kind) is tuple:
        return _parsed_list(node, arguments, key)
    if isinstance(node, Scalar):
        return _parsed_scalar(node, kind)
    raise _MisfitError


def _parsed_list(node: Node, kinds: tuple[Any, ...], key: str) -> tuple[Any, ...]:
    if not isinstance(node, list):
        raise _MisfitError
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(node)
    if len(kinds) != len(node):
        raise _MisfitError
    values = []
    for entry, kind in zip(node, kinds, strict=True):
        if isinstance(entry, Scalar):
            check_text(entry.text, key)
        values.append(_parsed(entry, kind, key))
    return tuple(values)


def _parsed_scalar(scalar: Scalar, kind: Any) -> Any:
    value: Any = None
    if kind is str:
        value = scalar.text
    elif kind is int:
        value = as_whole_number(scalar)
    elif kind is float:
        value = as_number(scalar)
    elif kind is bool and not scalar.quoted:
        value = {"true": True, "false": False}.get(scalar.text)
    elif get_origin(kind) is Literal:
        # choices may be numbers, such as the stages of ZeRO
        choices = {str(choice): choice for choice in get_args(kind)}
        value = choices.get(scalar.text)
    if value is None:
        raise _MisfitError
    return value


def _parsed_freely(node: Node, key: str) -> Any:
    """Return the value of an option whose type only a library knows.

    Raises:
        ValueError: a text looks like a number only to YAML, or an option is named like a secret.
    """
    if isinstance(node, list):
        return [_parsed_freely(entry, key) for entry in node]
    if isinstance(node, dict):
        return {name: _parsed_freely(entry, f"{key}.{name}") for name, entry in node.items()}
    check_text(node.text, key)
    value = as_json_value(node, key)
    # libraries take tokens as options, which would end up in config.yaml and on W&B
    if isinstance(value, str) and is_secret_name(key.rpartition(".")[2]):
        raise ValueError(
            f"{key} would be saved in the run's folder; leave it out and set an environment "
            "variable such as HF_TOKEN"
        )
    return value


def as_argument(node: Node, kind: Any) -> str:
    """Return what follows "=" on a command line to give a key of this kind the node's value."""
    if isinstance(node, Scalar) and not is_structured(kind):
        return node.text or ('""' if node.quoted else "")
    return as_flow_yaml(node)


def check_typed(value: Any, kind: Any, key: str) -> None:
    """Check a value that did not come from a text.

    Raises:
        ValueError: it is of another type or out of its bounds; the message names key, value and
            what it must be.
    """
    if not _fits(value, kind):
        raise ValueError(f"{key} is {value!r}; it must be {in_words(kind)}")


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    arguments = get_args(kind)
    if kind is Any:
        return True
    if origin is Annotated:
        return _fits(value, arguments[0]) and _is_within(value, arguments[1:])
    if is_optional(kind) or is_word_or_number(kind):
        return any(_fits(value, member) for member in arguments)
    # bool is a subclass of int, and True == 1
    if isinstance(value, bool) != (kind is bool):
        return False
    if origin is Literal:
        return value in arguments
    # a caller may have a list, which is saved in the same way
    if origin is tuple:
        return isinstance(value, list | tuple) and _entries_fit(value, arguments)
    if is_typeddict(kind) or origin is dict:
        return isinstance(value, Mapping) and _options_fit(value, kind)
    # NaN and infinity pass no bound, but not every number has bounds
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, kind)


def _entries_fit(values: Sequence[Any], kinds: tuple[Any, ...]) -> bool:
    if kinds[-1] is ...:
        return all(_fits(value, kinds[0]) for value in values)
    return len(values) == len(kinds) and all(map(_fits, values, kinds))


def _options_fit(options: Mapping[Any, Any], kind: Any) -> bool:
    for name, value in options.items():
        value_kind = inner_kind(kind, name) if isinstance(name, str) else None
        if value_kind is None or not _fits(value, value_kind):
            return False
    return True


def _is_within(value: Any, bounds: Sequence[Any]) -> bool:
    return all(bound.holds(value) for bound in bounds)


def _empty_text(kind: Any) -> str:
    """Return how to write an empty text, where the kind allows one."""
    return """; an empty one is "" in a file and '""' in a shell""" if kind in (str, Any) else ""


def _remedy(node: Node, kind: Any, key: str) -> str:
    if get_origin(kind) is tuple and isinstance(node, Scalar):
        example = printable(node.text, MAX_SHOWN_CHARACTERS)
        return f", which is no list; write {key}=[{example}]"
    return f"; it must be {in_words(kind)}{_number_format(node, kind)}"


def _number_format(node: Node, kind: Any) -> str:
    """Return how to write a number that was written as 010, 1_000, +5, 1e3 or in quotes."""
    while get_origin(kind) is Annotated or is_optional(kind) or is_word_or_number(kind):
        kind = get_args(kind)[-1] if is_word_or_number(kind) else get_args(kind)[0]
    # without a digit it was never meant as a number: the type alone is the remedy
    if not isinstance(node, Scalar) or not any(map(str.isdigit, node.text)):
        return ""
    if kind is int and as_whole_number(node) is None:
        return ", written in plain digits, such as 8"
    if kind is float and as_number(node) is None:
        return ", written like 0.5, 8 or 1e-4"
    return ""
