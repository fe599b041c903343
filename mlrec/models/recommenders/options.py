"""Options of a recommender: the arguments of its constructor after width and length."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mlrec.config.bounds import Between

MAX_LIST_ENTRIES = 64
"""Upper bound of the length of an option that is a list."""


def options_of(row: Callable[..., Any]) -> dict[str, Any]:
    """Return the row's options with their defaults; None for an option without a default."""
    parameters = list(inspect.signature(row).parameters.values())
    # the first two are width and length, which the configuration sets elsewhere
    return {parameter.name: _default(parameter) for parameter in parameters[2:]}


def in_words(options: Mapping[str, Any]) -> str:
    """Return options for use in a sentence, such as "layers=2, dropout=0.1"."""
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


# a decay of 0 has no logarithm, and a dropout of 1 leaves nothing to scale
_BOUNDS = {"dropout": Between(0, 1, below_high=True), "decay": Between(1e-6, 1), "b": Between(0, 1)}
"""Bounds of options that mean the same for every row, by name."""
_WHOLE_NUMBER = Between(1, 256)
"""Bounds of all other whole numbers, such as layers, heads and dilations."""
_REAL_NUMBER = Between(0, 1000)
"""Bounds of all other real numbers, such as k1."""


def check_options(name: str, row: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check that the row takes the options, and their types and bounds.

    Raises:
        ValueError: an option is unknown, of another type or out of bounds; names key, value and
            what the row takes.
    """
    defaults = options_of(row)
    for key, value in options.items():
        where = f"recommender.options.{key}"
        if key not in defaults:
            known = in_words(defaults) or "none"
            raise ValueError(f"{where}: unknown option; {name} takes {known}")
        default = defaults[key]
        # without a default any type is passed on, and the constructor checks it
        if default is not None and not _fits(value, default):
            kind = type(default).__name__.replace("tuple", "list")
            raise ValueError(
                f"{where} is {value!r}; {name} takes a value of type {kind}, such as {default!r}"
            )
        numbers = value if isinstance(value, list | tuple) else [value]
        usual_bounds = _REAL_NUMBER if isinstance(default, float) else _WHOLE_NUMBER
        bounds = _BOUNDS.get(key, usual_bounds)
        for number in numbers:
            if _is_number(number) and not bounds.holds(number):
                raise ValueError(f"{where} is {value!r}; it must be {bounds}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return None
    # `k1: float = 1` takes real numbers, whatever the type of its default
    if parameter.annotation in (float, "float") and isinstance(parameter.default, int):
        return float(parameter.default)
    return parameter.default


def _fits(value: Any, default: Any) -> bool:
    """Return whether the value has the default's type; a whole number is a float too."""
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_LIST_ENTRIES:
            return False
        return all(_fits(entry, first) for entry in value for first in default[:1])
    kinds = (int, float) if isinstance(default, float) else type(default)
    # bool is a subclass of int in Python
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
