"""What a row of RECOMMENDERS takes beside width and length."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def options_of(row: Callable[..., Any]) -> dict[str, Any]:
    """The row's options with their defaults; None for one that has no default."""
    return {parameter.name: _default(parameter) for parameter in list(inspect.signature(row).parameters.values())[2:]}


def in_words(options: Mapping[str, Any]) -> str:
    """As a sentence names them: layers=2, dropout=0.1."""
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


def check_options(name: str, row: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: the row has no such option, or it is of another type or out of bounds; the message names key, value and what
            the row takes.
    """
    takes = options_of(row)
    for key, value in options.items():
        if key not in takes:
            raise ValueError(f"recommender.options.{key}: unknown option; {name} takes {in_words(takes) or 'none'}")
        default = takes[key]
        if default is not None and not _fits(value, default):
            kind = type(default).__name__.replace("tuple", "list")
            raise ValueError(f"recommender.options.{key} is {value!r}; {name} takes a value of type {kind}, such as {default!r}")
        whole = [one for one in (value if isinstance(value, list | tuple) else [value]) if type(one) is int]
        if type(default) is not float and any(one < 1 for one in whole):
            raise ValueError(f"recommender.options.{key} is {value!r}; {name} takes whole numbers from 1 on")
        if key == "dropout" and not 0 <= value < 1:
            raise ValueError(f"recommender.options.dropout is {value!r}; it is a share, from 0 to below 1")


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return None
    if parameter.annotation in (float, "float") and isinstance(parameter.default, int):
        return float(parameter.default)
    return parameter.default


def _fits(value: Any, default: Any) -> bool:
    """Whether the value has the default's type; a whole number is a float too."""
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and all(_fits(one, first) for one in value for first in default[:1])
    kinds = (int, float) if isinstance(default, float) else type(default)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
