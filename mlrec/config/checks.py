"""Checks of a whole configuration: types and bounds of values, and keys that depend on others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from mlrec.config.durations import check_duration
from mlrec.config.metric_names import MAX_CUTOFFS, metric_names
from mlrec.config.scalars import check_text
from mlrec.config.values import check_typed
from mlrec.runtime.credentials import check_no_credentials
from mlrec.runtime.printable import printable
from mlrec.runtime.urls import check_url

if TYPE_CHECKING:
    from mlrec.config.configs import Config

MAX_NAME_BYTES = 200
"""Bytes of a run's name. File systems allow 255, and files named after the run add some."""
_WRITE_RUN_LENGTH = "write '20 epochs' or '1000 steps'"


def check_config(config: Config) -> None:
    """Check every value on its own, and the values that depend on each other.

    Raises:
        ValueError: a value does not fit; the message names key, value and remedy.
    """
    # first the types: the other checks rely on them
    _check_section(config, "")
    _check_name(config.name)
    _check_places(config)
    _check_encoders(config)
    _check_zero(config)
    _check_durations(config)
    _check_evaluate(config)
    _check_folders_apart(config)


def _check_section(section: Any, prefix: str) -> None:
    """Check the types and bounds of a section's values, and that no text holds credentials."""
    kinds = get_type_hints(type(section), include_extras=True)
    for field in fields(section):
        key = prefix + field.name
        value = getattr(section, field.name)
        if is_dataclass(value):
            _check_section(value, f"{key}.")
            continue
        check_typed(value, kinds[field.name], key)
        # options hold texts at any depth, and all of them are saved in the run's folder
        for place, text in _texts(value, key):
            check_no_credentials(text, place)


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the key and the text of every text within a value."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, key)


def _check_name(name: str) -> None:
    check_text(name, "name")
    # a slash makes folders within folders, but no part may lead out of them
    has_bad_part = any(part in ("", ".", "..") for part in name.split("/"))
    if has_bad_part or len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"name is {printable(repr(name), 80)}; it must be a folder's name, "
            f"of at most {MAX_NAME_BYTES} bytes"
        )


def _check_places(config: Config) -> None:
    # Training writes the run and the cache with file locks and renames, which object stores do not
    # have. The data set and encoders are only read.
    folders = {"run_dir": config.run_dir, "data.cache_dir": config.data.cache_dir}
    if config.train.start_from:
        folders["train.start_from"] = config.train.start_from
    for key, folder in folders.items():
        if not folder or "://" in folder:
            raise ValueError(f"{key} is {folder!r}; it must be a folder on this machine")
    check_url(config.data.url, "data.url")
    for encoder, options in config.item.options.items():
        check_url(options.get("checkpoint", ""), f"item.options.{encoder}.checkpoint")
        check_url(options.get("features", ""), f"item.options.{encoder}.features")


def _check_encoders(config: Config) -> None:
    encoders = config.item.encoders
    if not encoders:
        raise ValueError("item.encoders is empty; name one or more, see: mlrec list encoders")
    # probably a misspelt name: its options would silently have no effect
    unused = sorted(set(config.item.options) - set(encoders))
    if unused:
        raise ValueError(
            f"item.options.{unused[0]} is set, but item.encoders is {list(encoders)}. "
            "Add the encoder to the list, or remove its options"
        )


def _check_zero(config: Config) -> None:
    if config.zero.stage != 0:
        return
    if config.train.precision == "bf16":
        # without ZeRO, DeepSpeed's bf16 wrapper runs an optimizer step when it is built, so
        # Adam's first update would be off
        raise ValueError(
            "train.precision is bf16, which needs zero.stage 1, 2 or 3; with stage 0 use fp32 or "
            "tf32"
        )
    if config.zero.offload_optimizer:
        raise ValueError("zero.offload_optimizer needs zero.stage 1, 2 or 3; zero.stage is 0")


def _check_durations(config: Config) -> None:
    train = config.train
    # other durations may be a share of the run's length, but not the length itself
    if train.duration.endswith("%"):
        raise ValueError(
            f"train.duration is {train.duration!r}, a share of itself; {_WRITE_RUN_LENGTH}"
        )
    check_duration(train.duration, "train.duration", _WRITE_RUN_LENGTH)
    check_duration(train.log_every, "train.log_every")
    check_duration(train.evaluate_every, "train.evaluate_every")
    check_duration(train.save_every, "train.save_every")
    check_duration(config.optim.warmup, "optim.warmup")


def _check_evaluate(config: Config) -> None:
    cutoffs = list(config.evaluate.cutoffs)
    if not 1 <= len(cutoffs) <= MAX_CUTOFFS or cutoffs != sorted(set(cutoffs)):
        raise ValueError(
            f"evaluate.cutoffs is {printable(repr(cutoffs), 80)}; it must be 1 to {MAX_CUTOFFS} "
            "distinct cut-offs in ascending order, such as [10, 20]"
        )
    metrics = metric_names(cutoffs)
    selected = config.evaluate.select_by
    if selected not in metrics:
        raise ValueError(
            f"evaluate.select_by is {printable(repr(selected), 80)}; it must be one of "
            f"{', '.join(metrics)}. For another cut-off, add it to evaluate.cutoffs"
        )


def _check_folders_apart(config: Config) -> None:
    # links may lead from one folder into the other
    run = config.run_path.resolve()
    cache = Path(config.data.cache_dir).expanduser().resolve()
    if run == cache or run in cache.parents or cache in run.parents:
        raise ValueError(
            f"data.cache_dir is {cache} and the run's folder {run}: neither may lie in the other, "
            "because the cache deletes files. Choose another data.cache_dir or run_dir"
        )
