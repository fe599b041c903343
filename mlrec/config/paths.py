"""The paths of a configuration, which are relative to the folder that a command runs in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mlrec.config.configs import Config
from mlrec.config.loading import override

_KEYS = ("run_dir", "data.url", "data.cache_dir", "train.start_from")
_ENCODER_OPTIONS = ("checkpoint", "features")


def absolute_settings(config: Config) -> list[str]:
    """Return key=value for each relative path of a configuration, with the absolute path."""
    settings = []
    for key, value in _paths(config):
        path = absolute(key, value)
        if path != value:
            settings.append(f"{key}={path}")
    return settings


def with_absolute_paths(config: Config) -> Config:
    """Return a configuration that means the same in every working directory."""
    return override(config, absolute_settings(config))


def absolute(key: str, value: Any) -> Any:
    """Return the value of a key, where a relative path becomes an absolute one."""
    option = key.rpartition(".")[2]
    of_encoder = key.startswith("item.options.") and option in _ENCODER_OPTIONS
    if not isinstance(value, str) or not (key in _KEYS or of_encoder):
        return value
    if not value or value.startswith("~") or "://" in value:
        return value
    # a name on the Hugging Face hub looks like a path
    if option == "checkpoint" and not os.path.exists(value):
        return value
    return os.path.abspath(value)


def _paths(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield the keys that are paths, with their values."""
    values = (config.run_dir, config.data.url, config.data.cache_dir, config.train.start_from)
    yield from zip(_KEYS, values, strict=True)
    for encoder, options in config.item.options.items():
        for option in _ENCODER_OPTIONS:
            yield f"item.options.{encoder}.{option}", options.get(option, "")
