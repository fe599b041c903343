"""Configurations, settings and other arguments from Python values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mlrec import config as configuration
from mlrec.config import Config
from mlrec.config.paths import absolute
from mlrec.data.format import SPLITS
from mlrec.runtime.printable import printable

Settings: TypeAlias = Mapping[str, Any]
"""Values by key, such as {"train.duration": "2 epochs"}; `mlrec list keys` describes the keys."""

AnyConfig: TypeAlias = str | Path | Sequence[str | Path] | Settings | Config
"""A YAML file, several files, settings alone or a Config."""

MAX_SHOWN_CHARACTERS = 60


def as_overrides(settings: Settings | None) -> list[str]:
    """Return settings as the "key=value" of a command line.

    Raises:
        TypeError: the settings are not a mapping, or a value has no such form.
    """
    if settings is None:
        return []
    if not isinstance(settings, Mapping):
        raise TypeError(
            f"settings is {shown(settings)}. Pass a mapping of keys to values, such as "
            '{"train.duration": "2 epochs"}'
        )
    return [f"{key}={_as_text(key, value)}" for key, value in settings.items()]


def _as_text(key: str, value: Any) -> str:
    if isinstance(value, str | os.PathLike):
        # an empty text is written in quotes, as in a shell
        return os.fspath(value) or '""'
    try:
        # JSON is YAML, which lists and options are written in
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=os.fspath)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{key} is {shown(value)}, which a configuration cannot hold. Pass a text, a number, "
            "True, False, None, a list or a dict"
        ) from error


def as_config(config: AnyConfig, settings: Settings | None) -> Config:
    """Return a configuration with settings.

    Raises:
        TypeError: it is none of these.
        ValueError: a file is missing, or a key or a value does not fit.
    """
    overrides = as_overrides(settings)
    if isinstance(config, Config):
        return configuration.override(config, overrides)
    if isinstance(config, Mapping):
        return configuration.load([], [*as_overrides(config), *overrides])
    if isinstance(config, str | os.PathLike):
        return configuration.load([config], overrides)
    if isinstance(config, Sequence):
        return configuration.load(list(config), overrides)
    raise TypeError(
        f"config is {shown(config)}. Pass the path of a YAML file, a list of paths, a dict of "
        "settings, or a mlrec.Config"
    )


def as_place(name: str, value: object) -> str:
    """Return a folder or URL, a relative folder as an absolute one.

    Raises:
        TypeError: it is no path.
        ValueError: it is empty.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} is {shown(value)}. Pass a folder or URL as a string or Path")
    if not os.fspath(value):
        raise ValueError(f"{name} is empty. Pass a folder or URL")
    place: str = absolute("data.url", os.fspath(value))
    return place


def check_raw_id(name: str, value: object) -> None:
    """Check that a user or an item is named by its raw id.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, str):
        remedy = f'such as "{value}"' if isinstance(value, int) else "a string"
        raise TypeError(f"{name} is {shown(value)}. Pass its raw id, {remedy}")


def check_number(name: str, value: int, lowest: int, highest: int = 1 << 31) -> int:
    """Return a whole number in a range.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}. Pass a whole number")
    if not lowest <= value <= highest:
        raise ValueError(f"{name} is {value}. Pass a whole number from {lowest} to {highest:,}")
    return int(value)


def check_split(split: str) -> None:
    """Check the name of a split.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}. Pass {' or '.join(map(repr, SPLITS))}")


def shown(value: object) -> str:
    """Return a value with its type, for a message."""
    return f"{printable(repr(value), MAX_SHOWN_CHARACTERS)} of type {type(value).__name__}"
