"""Load configurations from YAML files and key=value, and save them so that they repeat the run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from mlrec.config.configs import Config
from mlrec.config.key_docs import Key, described, first_sentence
from mlrec.config.keys import Keys
from mlrec.config.merging import Source, merge_sources
from mlrec.config.scalars import Node
from mlrec.config.sources import check_words, file_sources, is_setting, override_source
from mlrec.config.values import as_argument
from mlrec.config.yaml_files import to_yaml

_log = logging.getLogger(__name__)

# resolving the types of all sections takes milliseconds, so it happens once
_KEYS = Keys.of(Config)
_FORCE = ("resume", "force")


def load(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of files, and last of overrides ("key=value").

    Each file comes after its base files. The overrides are one source, in any order. A file or the
    overrides that give recommender.name another value drop the recommender.options of the sources
    before. Encoders that leave item.encoders lose their item.options in the same way. Options that
    the same source sets are not dropped.

    Raises:
        ValueError: a file is missing, or a key or a value does not fit; the message names place,
            value and remedy.
    """
    sources = _sources_of(files)
    # in a file it would silently allow every later change of the run
    for source in sources:
        if source.value_of(_FORCE, False):
            raise ValueError(
                f"{source.where}: resume.force is for one command. Give it on the command line: "
                "resume.force=true"
            )
    return _merged([*sources, override_source(overrides, _KEYS)])


def _sources_of(files: Sequence[str | Path]) -> list[Source]:
    sources: list[Source] = []
    for file in files:
        sources += file_sources(Path(file), _KEYS)
    return sources


def override(config: Config, overrides: Sequence[str]) -> Config:
    """Return a configuration with overrides ("key=value").

    Raises:
        ValueError: a key or a value does not fit.
    """
    return _build_from(merge_sources(asdict(config), [override_source(overrides, _KEYS)]))


def load_saved(file: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that `save` wrote, with overrides ("key=value").

    The file may be of an earlier version, which saved resume.force. As that is for one command, it
    is ignored with a warning.

    Raises:
        ValueError: as load, or the end of the file is missing.
    """
    sources = file_sources(file, _KEYS)
    _check_complete(file, sources)
    is_forced = any(source.value_of(_FORCE, False) for source in sources)
    # every rank loads the file; rank 0 warns
    if is_forced and os.environ.get("RANK", "0") == "0":
        _log.warning(
            "%s: resume.force=true is ignored; give it on the command line if it is meant", file
        )
    saved = [_without_resume(source) for source in sources]
    return _merged([*saved, override_source(overrides, _KEYS)])


def _check_complete(file: Path, sources: Iterable[Source]) -> None:
    """Check that a saved file has all sections; a truncated file lacks the last ones."""
    missing = [field.name for field in fields(Config) if field.name != "resume"]
    for source in sources:
        for setting in source.settings:
            if setting.path[0] in missing:
                missing.remove(setting.path[0])
    if missing:
        raise ValueError(
            f"{file} is truncated: it has no {missing[0]}. Restore it, or run the training command "
            "again with resume.force=true, which writes it"
        )


def _without_resume(source: Source) -> Source:
    settings = [setting for setting in source.settings if setting.path[0] != "resume"]
    return Source(source.where, tuple(settings))


def _merged(sources: Sequence[Source]) -> Config:
    return _build_from(merge_sources(asdict(Config()), sources))


def _build_from(tree: Mapping[str, Any]) -> Config:
    config: Config = _build(Config, tree)
    return config


def _build(section: Any, tree: Mapping[str, Any]) -> Any:
    """Return a dataclass with the values of a tree, and the sections within it."""
    # construction runs Config.__post_init__, which checks the configuration as a whole
    kinds = get_type_hints(section)
    values = {}
    for name, value in tree.items():
        kind = kinds[name]
        values[name] = _build(kind, value) if is_dataclass(kind) else value
    return section(**values)


def load_arguments(words: Sequence[str]) -> Config:
    """Return the configuration of a command line: files and key=value, in any order.

    Raises:
        ValueError: as load.
    """
    check_words(words, _KEYS)
    files = [word for word in words if not is_setting(word)]
    overrides = [word for word in words if is_setting(word)]
    return load(files, overrides)


def check_is_place(word: str, argument: str) -> None:
    """Check that a word can be the folder or URL that a command expects.

    Raises:
        ValueError: the word is an option or a key=value.
    """
    # a folder may have a "=" in its name, so only a key that exists counts
    key = word.partition("=")[0]
    if word.startswith("-") or (is_setting(word) and _KEYS.has(key)):
        raise ValueError(
            f"{argument} is missing before {word}; name a folder or URL "
            f"(a folder of this name is ./{word})"
        )


def as_value(node: Node, key: str) -> str:
    """Return a value from a YAML file in the form that follows key= on a command line."""
    return as_argument(node, _KEYS.kind_at(key.split(".")))


def kind_of(key: str) -> Any:
    """Return the type of a key by its name with dots; None if there is no such key."""
    return _KEYS.kind_at(key.split("."))


def save(config: Config, path: Path) -> None:
    """Write every key with its value, atomically; loading the file gives an equal configuration.

    The section resume is left out, as it is for one command.
    """
    tree = {key: value for key, value in asdict(config).items() if key != "resume"}
    # Readers must never see half a file. The process id keeps two writers apart.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(to_yaml(_without_tuples(tree)), encoding="utf-8")
    os.replace(partial, path)


def _without_tuples(value: Any) -> Any:
    # PyYAML writes tuples with a tag, which `read_yaml` refuses
    if isinstance(value, Mapping):
        return {key: _without_tuples(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tuples(entry) for entry in value]
    return value


def keys() -> dict[str, Key]:
    """Return every key, except those within options, with its type, default and meaning."""
    return described(Config)


def section_docs() -> dict[str, str]:
    """Return the first sentence of each section's docstring."""
    docs = {}
    for name, kind in get_type_hints(Config).items():
        if is_dataclass(kind):
            docs[name] = first_sentence(kind)
    return docs
