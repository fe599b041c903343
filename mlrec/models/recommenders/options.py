"""What a row of RECOMMENDERS takes beside width and length."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mlrec.config.bounds import Between

MAX_LIST = 64
"""Entries of an option that is a list."""


def options_of(row: Callable[..., Any]) -> dict[str, Any]:
    """The row's options with their defaults; None for one that has no default."""
    return {
        parameter.name: _default(parameter)
        for parameter in list(inspect.signature(row).parameters.values())[2:]
    }


def in_words(options: Mapping[str, Any]) -> str:
    """As a sentence names them: layers=2, dropout=0.1."""
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


_BOUNDS = {"dropout": Between(0, 1, below_high=True), "decay": Between(1e-6, 1), "b": Between(0, 1)}
"""Of options that mean the same to every row."""
_WHOLE, _REAL = Between(1, 256), Between(0, 1000)
"""Of all others: layers, heads, dilations and the like; k1."""


def check_options(name: str, row: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: the row has no such option, or it is of another type or out of bounds; the message names key, value and what
            the row takes.
    """
    takes = options_of(row)
    for key, value in options.items():
        where = f"recommender.options.{key}"
        if key not in takes:
            raise ValueError(f"{where}: unknown option; {name} takes {in_words(takes) or 'none'}")
        default = takes[key]
        if default is not None and not _fits(value, default):
            kind = type(default).__name__.replace("tuple", "list")
            raise ValueError(
                f"{where} is {value!r}; {name} takes a value of type {kind}, such as {default!r}"
            )
        numbers = value if isinstance(value, list | tuple) else [value]
        bounds = _BOUNDS.get(key, _REAL if isinstance(default, float) else _WHOLE)
        if any(not bounds.holds(number) for number in numbers if _is_number(number)):
            raise ValueError(f"{where} is {value!r}; it must be {bounds}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return None
    if parameter.annotation in (float, "float") and isinstance(parameter.default, int):
        return float(parameter.default)
    return parameter.default


def _fits(value: Any, default: Any) -> bool:
    """Whether the value has the default's type; a whole number is a float too."""
    if isinstance(default, tuple):
        is_list = isinstance(value, list | tuple) and 1 <= len(value) <= MAX_LIST
        return is_list and all(_fits(one, first) for one in value for first in default[:1])
    kinds = (int, float) if isinstance(default, float) else type(default)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
