"""Load configurations from YAML files and key=value, and save them so that they repeat the run."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from mlrec.config.configs import Config
from mlrec.config.keys import Key, described, kinds_of
from mlrec.config.merging import (
    Setting,
    check_arguments,
    file_sources,
    is_setting,
    kind_at,
    merge_sources,
    override_source,
)
from mlrec.config.values import Node, as_argument
from mlrec.config.yaml_files import to_yaml

_log = logging.getLogger(__name__)


_KINDS = kinds_of(Config)


def load(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of `files`, each with its base files first, and `overrides` ("key=value") last.

    Options belong to the row that they were set for. A file, or the overrides, which are one source in any order, that gives
    recommender.name another value drops the recommender.options of the sources before it; if it gives item.encoders another
    list, what these say in item.options of encoders that are in the list no more. Its own options are kept.

    Raises:
        ValueError: a file is missing, a key or a value does not fit; the message names place, value and remedy.
    """
    sources = [source for file in files for source in file_sources(Path(file), Config, _KINDS)]
    for setting in _forces(sources):
        raise ValueError(
            f"{setting.where}: resume.force is for one command; give it on the command line, resume.force=true"
        )
    return _merged([*sources, override_source(overrides, Config, _KINDS)])


def load_saved(file: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that `save` wrote, of this or an earlier version, with `overrides` ("key=value") over it.

    Earlier versions saved resume.force, which is for one command: it is ignored, with a warning.

    Raises:
        ValueError: as load, or the end of the file is missing.
    """
    sources = file_sources(file, Config, _KINDS)
    sections = {setting.path[0] for source in sources for setting in source}
    if missing := [one.name for one in fields(Config) if one.name not in {*sections, "resume"}]:
        raise ValueError(
            f"{file} is cut short: it has no {missing[0]}. Restore it, or run the training command again with resume.force=true, "
            "which writes it"
        )
    if any(_forces(sources)) and os.environ.get("RANK", "0") == "0":
        _log.warning(
            "%s: resume.force=true is ignored; where it is meant, give it on the command line", file
        )
    kept = [[setting for setting in source if setting.path[0] != "resume"] for source in sources]
    return _merged([*kept, override_source(overrides, Config, _KINDS)])


def _forces(sources: Sequence[Sequence[Setting]]) -> list[Setting]:
    return [
        setting
        for source in sources
        for setting in source
        if setting.key == "resume.force" and setting.value
    ]


def _merged(sources: Sequence[Sequence[Setting]]) -> Config:
    config: Config = _build(Config, merge_sources(asdict(Config()), sources))
    return config


def _build(section: Any, tree: Mapping[str, Any]) -> Any:
    kinds = get_type_hints(section)
    return section(
        **{
            name: _build(kinds[name], value) if is_dataclass(kinds[name]) else value
            for name, value in tree.items()
        }
    )


def load_arguments(arguments: Sequence[str]) -> Config:
    """Return the configuration of a command line: files and key=value, in any order.

    Raises:
        ValueError: as load.
    """
    check_arguments(arguments, Config, _KINDS)
    files = [word for word in arguments if not is_setting(word)]
    return load(files, [word for word in arguments if is_setting(word)])


def check_is_place(word: str, argument: str) -> None:
    """
    Raises:
        ValueError: the word that stands where a command expects a folder or URL is an option or a key=value.
    """
    if word.startswith("-") or (
        is_setting(word) and kind_at(word.partition("=")[0], Config) is not None
    ):
        raise ValueError(
            f"{argument} is missing before {word}; name a folder or URL (a folder of this name is ./{word})"
        )


def as_value(node: Node, key: str) -> str:
    """Return a value from a YAML file as key=value of a command line has it."""
    return as_argument(node, kind_at(key, Config))


def save(config: Config, path: Path) -> None:
    """Write every key with its value, complete or not at all; loading the file gives an equal configuration.

    The section resume is left out: it is for one command.
    """
    tree = {key: value for key, value in asdict(config).items() if key != "resume"}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(to_yaml(_without_tuples(tree)), encoding="utf-8")
    os.replace(partial, path)


def _without_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_tuples(entry) for key, entry in value.items()}
    return [_without_tuples(entry) for entry in value] if isinstance(value, list | tuple) else value


def keys() -> dict[str, Key]:
    """Return every key of a configuration, but for what options hold, with type, default and meaning."""
    return described(Config)


def section_docs() -> dict[str, str]:
    """Return the first line of each section's docstring."""
    docs = {}
    for name, kind in get_type_hints(Config).items():
        if is_dataclass(kind):
            docs[name] = (kind.__doc__ or "").strip().splitlines()[0]
    return docs
