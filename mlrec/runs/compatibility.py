"""What may differ between a run's checkpoint and the command that continues or reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlrec import config as configuration
from mlrec.config import Config
from mlrec.config.paths import absolute
from mlrec.config.run_files import CONFIG_FILE
from mlrec.runs.checkpoint_state import TrainingState, read_state
from mlrec.runtime.printable import printable

PLACES = ("name", "run_dir", "resume")
"""Keys and sections that say where a run is, not what it computes."""
WITHOUT_EFFECT = (
    *PLACES,
    # The data set is compared by its fingerprint instead, so that it may move.
    "data",
    "zero",
    "tracking",
    # evaluate.users may not change: the best of validations on different users is chosen by luck.
    "evaluate.cutoffs",
    "evaluate.select_by",
    "evaluate.final_split",
    "evaluate.user_chunk",
    "train.duration",
    "train.log_every",
    "train.evaluate_every",
    "train.patience",
    "train.save_every",
    "train.keep_last",
    "train.max_skipped_steps",
    "item.chunk",
    "item.checkpoint",
    "item.prefix_cache_bytes",
)
"""Keys and sections that may change when a run is resumed.

The losses do not depend on them, except for train.duration, whose purpose is to be changed. A run
that train.patience has stopped continues with a larger one.
"""

MODEL_SETTINGS = (
    "recommender.name",
    "recommender.width",
    "recommender.options",
    "recommender.cosine",
    "item.encoders",
    "item.fusion",
)
"""Keys that give the weights their meaning.

Shapes alone do not tell: weights of equal shapes differ between numbers of attention heads, or
between scores by cosine and by dot product.
"""

_ABSENT = object()
"""Stands for the value of a key that a configuration lacks."""


def changes(config: Config, ignored: tuple[str, ...]) -> str:
    """Return how a configuration differs from the one in its run's folder, in words.

    The result is "" for no difference, and for a folder without a configuration.
    """
    written = config.run_path / CONFIG_FILE
    if not written.exists():
        return ""
    return differences(configuration.load_saved(written), config, ignored)


def differences(saved: Config, config: Config, ignored: tuple[str, ...]) -> str:
    """Return how a configuration differs from a saved one, in words; "" for no difference."""
    before = _leaves(saved)
    changed: list[str] = []
    for key, value in _leaves(config).items():
        section = key.partition(".")[0]
        if key not in ignored and section not in ignored:
            changed += _changes(key, value, before.get(key, _ABSENT))
    return "; ".join(changed)


def _changes(key: str, now: Any, before: Any) -> Iterator[str]:
    """Yield how a value has changed, in words; nothing if it is the same.

    Mappings, such as item.options, are compared entry by entry, because each may be long.
    """
    # A path may have become absolute: a sweep passes it so to its launcher.
    if absolute(key, now) == absolute(key, before):
        return
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        # in the order of this configuration, with removed entries last
        for name in {**now, **before}:
            yield from _changes(f"{key}.{name}", now.get(name, _ABSENT), before.get(name, _ABSENT))
        return
    yield f"{key} is {_shown(now)}, was {_shown(before)}"


def _shown(value: Any) -> str:
    return "not set" if value is _ABSENT else printable(repr(value))


def new_run(config: Config) -> str:
    """Return how to start over while another run is in the folder, as part of a sentence."""
    if "{name}" in config.run_dir:
        return "give the new run a name of its own: name=NEW"
    return "give the new run a folder of its own: run_dir=NEW"


def check_resumable(
    state: TrainingState, now: TrainingState, checkpoint: Path, config: Config
) -> None:
    """Check that the checkpoint continues the run that is configured now.

    Raises:
        ValueError: the data set, the global batch or the seed differs, and resume.force is off.
    """
    if config.resume.force:
        return
    # These three and the step decide the order of the data, which no checkpoint stores.
    if state.fingerprint != now.fingerprint:
        change = _data_change(config, state.fingerprint, now.fingerprint)
    elif state.global_batch != now.global_batch:
        change = f"train.global_batch changed from {state.global_batch} to {now.global_batch}"
    elif state.seed != now.seed:
        change = f"seed changed from {state.seed} to {now.seed}"
    else:
        return
    raise ValueError(
        f"Cannot resume from {checkpoint}: {change}. To start over, {new_run(config)}. "
        "resume.force=true continues this run anyway"
    )


def _data_change(config: Config, before: str, now: str) -> str:
    """Return how the data set differs from that of the run's checkpoint, in words."""
    written = config.run_path / CONFIG_FILE
    url = configuration.load_saved(written).data.url if written.exists() else ""
    if not url or absolute("data.url", url) == absolute("data.url", config.data.url):
        shown = config.data.url or "data.url"
        return f"the data set at {shown} changed, from fingerprint {before[:12]} to {now[:12]}"
    return f"the data set is {config.data.url}, was {url}, and their contents differ"


def check_same_run(config: Config) -> None:
    """Check that the run in the folder has the settings of this one; resume.force allows others.

    Raises:
        ValueError: settings differ that change the losses, or the folder is that of another name.
    """
    if config.resume.force:
        return
    _check_name(config)
    changed = changes(config, WITHOUT_EFFECT)
    if changed:
        raise ValueError(
            f"{config.run_path} holds a run with other settings ({changed}). Restore the old "
            f"values, or {new_run(config)}. resume.force=true resumes with the new "
            "settings, unless they change the parameters of the model"
            f"{_precision_hint(config)}"
        )


def _check_name(config: Config) -> None:
    """Check that a run_dir without {name} holds no run of another name.

    Raises:
        ValueError: it does.
    """
    saved = configuration.load_saved(config.run_path / CONFIG_FILE).name
    if "{name}" not in config.run_dir and saved != config.name:
        raise ValueError(
            f"Cannot train {config.name} in {config.run_path}, which holds the run {saved}. To "
            f"start over, {new_run(config)}. To continue the run, set name={saved}"
        )


def _precision_hint(config: Config) -> str:
    """Return how to continue if another device changed the precision; "" if it is the same."""
    saved = configuration.load_saved(config.run_path / CONFIG_FILE).train.precision
    if saved == config.train.precision:
        return ""
    return (
        ". train.precision=auto depends on the device: set "
        f"train.precision={saved} to continue as before"
    )


def check_same_data(
    checkpoint: Path, fingerprint: str, url: str, force: bool, setting: str = ""
) -> None:
    """Check that a checkpoint was trained on the data set in use, so that ids mean the same.

    Args:
        fingerprint: of the data set in use.
        url: of the data set in use.
        force: allow another data set, of which the user says that the ids are the same.
        setting: what the message starts with, where a setting names the checkpoint.

    Raises:
        ValueError: the data set is another one.
    """
    if force or read_state(checkpoint).fingerprint == fingerprint:
        return
    raise ValueError(
        f"{setting}{checkpoint} was trained on another data set than the one at {url}, where ids "
        "may have another meaning. Train a new run on this data set, or set resume.force=true "
        "if the ids are the same"
    )


def model_settings(config: Config) -> dict[str, Any]:
    """Return the settings that give a checkpoint's weights their meaning."""
    leaves = _leaves(config)
    settings = {key: leaves[key] for key in MODEL_SETTINGS}
    # Compared with settings read from JSON, where tuples have become lists.
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def check_model_settings(
    config: Config, trained_with: dict[str, Any], file: str, weights: str
) -> None:
    """Check that the configuration in `file` describes the model of `weights`.

    Called before the model is built, where a wrong setting would show as wrong shapes or not at
    all.

    Args:
        trained_with: model_settings of the training; empty if unknown.

    Raises:
        ValueError: the file was edited, or the run was resumed as another model with
            resume.force=true.
    """
    changed: list[str] = []
    for key, value in model_settings(config).items():
        # Old checkpoints lack some or all of these keys; an unknown setting counts as unchanged.
        changed += _changes(key, value, trained_with.get(key, value))
    if changed:
        raise ValueError(
            f"{file} does not describe the model of {weights}: {'; '.join(changed)}. "
            "Restore these settings in the file"
        )


def _leaves(config: Config) -> dict[str, Any]:
    """Return the values of a configuration by key: "name", "train.seed"."""
    tree = asdict(config)
    top: dict[str, Any] = {}
    in_sections: dict[str, Any] = {}
    for name, value in tree.items():
        if not isinstance(value, dict):
            top[name] = value
            continue
        # One level deep: a mapping inside a section, such as recommender.options, is one value.
        for key, leaf in value.items():
            in_sections[f"{name}.{key}"] = leaf
    return top | in_sections
