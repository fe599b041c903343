"""What a run was begun with, against what it is asked to go on with."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from mlrec import config as configuration
from mlrec.config import Config
from mlrec.config.run_files import CONFIG_FILE
from mlrec.runtime.printable import printable

PLACES = ("name", "run_dir", "resume")
"""Keys and sections that say where a run is, not what it is."""
WITHOUT_EFFECT = (
    *PLACES,
    "data",  # the data set itself is compared by its fingerprint
    "zero",
    "tracking",
    "evaluate",
    "train.duration",
    "train.log_every",
    "train.evaluate_every",
    "train.save_every",
    "train.keep_last",
    "train.max_skipped_steps",
    "item.chunk",
    "item.checkpoint",
    "item.prefix_cache_bytes",
)
"""Those in which a run may differ from the one that its folder holds and still be the same run: the losses do not depend on them,
or, as with a longer train.duration, are asked to."""


MODEL_SETTINGS = (
    "recommender.name",
    "recommender.width",
    "recommender.options",
    "recommender.cosine",
    "item.encoders",
    "item.fusion",
)
"""Weights of equal shapes mean something else with other heads, or scored by cosine."""


def changes(config: Config, ignored: tuple[str, ...]) -> str:
    """In which keys the configuration differs from the one in its run's folder, in words; "" where that has none."""
    written = config.run_path / CONFIG_FILE
    if not written.exists():
        return ""
    return differences(configuration.load_saved(written), config, ignored)


def differences(saved: Config, config: Config, ignored: tuple[str, ...]) -> str:
    """Return in which keys a configuration differs from a saved one, in words; "" for in none."""
    before, now = _leaves(saved), _leaves(config)
    kept = [key for key in now if key not in ignored and key.partition(".")[0] not in ignored]
    return "; ".join(
        _change(key, now[key], before.get(key)) for key in kept if now[key] != before.get(key)
    )


def _change(key: str, now: Any, before: Any) -> str:
    return f"{key} is {printable(repr(now))}, was {printable(repr(before))}"


def check_same_run(config: Config) -> None:
    """
    Raises:
        ValueError: the run's folder, which has checkpoints, was begun with settings that give other losses.
    """
    if not config.resume.force and (changed := changes(config, WITHOUT_EFFECT)):
        raise ValueError(
            f"{config.run_path} holds a run with other settings ({changed}): give the new one another name or run_dir, or "
            "append resume.force=true to resume with them"
        )


def model_settings(config: Config) -> dict[str, Any]:
    """Return the settings that say what a checkpoint's weights mean, as JSON has them."""
    leaves = _leaves(config)
    found: dict[str, Any] = json.loads(json.dumps({key: leaves[key] for key in MODEL_SETTINGS}))
    return found


def check_model_settings(
    config: Config, trained_with: dict[str, Any], file: str, weights: str
) -> None:
    """Check that the configuration read from `file` describes the model of `weights`, before that model is built.

    Args:
        trained_with: model_settings of the training; empty where they are not known.

    Raises:
        ValueError: the file was edited, or the run was resumed as another model with resume.force=true.
    """
    now = model_settings(config)
    changed = [
        _change(key, now[key], trained_with[key])
        for key in now
        if now[key] != trained_with.get(key, now[key])
    ]
    if changed:
        raise ValueError(
            f"{file} does not describe the model of {weights}: {'; '.join(changed)}. Restore these settings there"
        )


def _leaves(config: Config) -> dict[str, Any]:
    tree = asdict(config)
    sections = {key: value for key, value in tree.items() if isinstance(value, dict)}
    leaves = {
        f"{section}.{key}": value
        for section, keys in sections.items()
        for key, value in keys.items()
    }
    return {key: value for key, value in tree.items() if key not in sections} | leaves
