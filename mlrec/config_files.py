"""What sets the keys of a configuration: files, each behind its base files, and key=value of a command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mlrec.keys import holds_options, kind_in_words, near_key, near_keys
from mlrec.yaml_files import first_line, read_yaml

KIND = "configuration file"

Kinds = Mapping[str, Any]
"""Every key and every section ("optim.lr", "optim"), with its type."""


@dataclass(frozen=True)
class Setting:
    """A key and what it is set to."""

    where: str
    """The file, or the key=value as it was given."""
    key: str
    value: Any

    @property
    def tree(self) -> dict[str, Any]:
        """The value below its section."""
        section, _, name = self.key.rpartition(".")
        return {section: {name: self.value}} if section else {name: self.value}


def merge_sources(defaults: Any, sources: Iterable[Sequence[Setting]], kinds: Kinds) -> Any:
    """The defaults with what the sources set, the later in the place of the earlier.

    Raises:
        ValueError: a value does not fit its key; the message names place, key, value and what it must be.
    """
    merged = defaults
    for source in sources:
        before, merged = _plain(merged), _with(merged, source, kinds)
        kept = _without_options_of_gone_rows(before, _plain(merged))
        if kept != before:
            merged = _with(OmegaConf.merge(defaults, kept), source, kinds)
    return merged


def file_sources(path: Path, kinds: Kinds, seen: tuple[Path, ...] = ()) -> list[list[Setting]]:
    """What a file's base files set, each behind its own, and last what the file itself sets.

    Raises:
        ValueError: a file is missing or holds something else than keys, or a key is unknown; the message names the file.
    """
    if path in seen:
        raise ValueError(f"base files in a circle: {' -> '.join(map(str, [*seen, path]))}")
    content: Any = OmegaConf.to_container(read_yaml(path, KIND))
    if not isinstance(content, dict):
        raise ValueError(f"{path} is a list; a {KIND} must hold keys with their values, such as seed: 3")
    bases = content.pop("base", [])
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        shown = bases if isinstance(bases, str) else "FILE"
        raise ValueError(f"{path}: base is {bases!r}; it must be a list of files, write base: [{shown}]")
    found = [source for base in bases for source in file_sources((path.parent / base).resolve(), kinds, (*seen, path))]
    return [*found, _settings(content, kinds, str(path))]


def override_source(overrides: Sequence[str], kinds: Kinds) -> list[Setting]:
    """What a command line's key=value set; they are one source.

    Raises:
        ValueError: one has no "=", or its value is not YAML, or the key is unknown.
    """
    found = []
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"{override!r} is neither a file nor key=value{_key_to_set(override, kinds)}")
        try:
            tree: Any = OmegaConf.to_container(OmegaConf.from_dotlist([override]))
        except (YAMLError, OmegaConfBaseException) as error:
            value = override.partition("=")[2]
            raise ValueError(f"{override}: the value {value!r} is not YAML; close its brackets, or put it in quotes") from error
        found += _settings(tree, kinds, override)
    return found


def check_arguments(arguments: Sequence[str], kinds: Kinds) -> None:
    """
    Raises:
        ValueError: a word of a command line is meant as an option, or as a key, and would be taken for a file.
    """
    for word in arguments:
        if word.startswith("-"):
            raise ValueError(f"{word} is no option of this command, which takes files and key=value; see: mlrec --help")
        if "=" not in word and not Path(word).exists() and (remedy := _key_to_set(word, kinds)):
            raise ValueError(f"{word!r} is neither a file nor key=value{remedy}")


def _key_to_set(word: str, kinds: Kinds) -> str:
    """The end of a message about a word without "=": how to set the key that it is or is near to, "" for a file's name."""
    if word.endswith((".yaml", ".yml")):
        return ""
    if _is_option(word, kinds):
        return f"; write {word}=VALUE"
    near = [] if "/" in word else near_keys(word, list(kinds))
    forms = [f"{key}.KEY=VALUE" if is_dataclass(kinds.get(key)) else f"{key}=VALUE" for key in near]
    return f"; write {' or '.join(forms)}" if forms else ""


def _is_option(key: str, kinds: Kinds) -> bool:
    """Whether the key lies within one that holds options, such as recommender.options.layers."""
    return any(key.startswith(f"{known}.") and holds_options(kind) for known, kind in kinds.items())


def _settings(tree: Mapping[Any, Any], kinds: Kinds, where: str, prefix: str = "") -> list[Setting]:
    """The keys that a tree of sections sets."""
    found: list[Setting] = []
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if is_dataclass(kinds.get(key)) and isinstance(value, dict) and "." not in str(name):
            found += _settings(value, kinds, where, f"{key}.")
        elif key in kinds and "." not in str(name):
            found.append(Setting(where, key, value))
        elif key in kinds or _is_option(key, kinds):
            raise ValueError(f"{where}: unknown key {key!r}; in a file keys are nested, write {_nested(key)}")
        else:
            raise ValueError(f"{where}: unknown key {key!r}{near_key(key, list(kinds))}")
    return found


def _nested(key: str) -> str:
    """A dotted key as YAML has it, with dots in the place of the value."""
    first, *inner = key.split(".")
    value = "..."
    for name in reversed(inner):
        value = f"{{{name}: {value}}}"
    return f"{first}: {value}"


def _without_options_of_gone_rows(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """`before` without the options of a recommender or an encoder that `after` names no more."""
    recommender, item = before["recommender"], before["item"]
    if recommender["name"] != after["recommender"]["name"]:
        recommender = recommender | {"options": {}}
    if gone := [name for name in item["encoders"] if name not in after["item"]["encoders"]]:
        item = item | {"options": {name: options for name, options in item["options"].items() if name not in gone}}
    return before | {"recommender": recommender, "item": item}


def _plain(config: Any) -> dict[str, Any]:
    found: Any = OmegaConf.to_container(config)
    return found  # type: ignore[no-any-return]


def _with(merged: Any, source: Sequence[Setting], kinds: Kinds) -> Any:
    try:
        return OmegaConf.merge(merged, *(setting.tree for setting in source))
    except (OmegaConfBaseException, TypeError):
        # one by one takes five times as long, but tells which does not fit
        for setting in source:
            try:
                merged = OmegaConf.merge(merged, setting.tree)
            except (OmegaConfBaseException, TypeError) as error:
                raise ValueError(f"{setting.where}: {_misfit(setting, kinds[setting.key], error)}") from error
        raise


def _misfit(setting: Setting, kind: Any, error: Exception) -> str:
    """Why a value does not fit its key, in words."""
    key, value = setting.key, setting.value
    if value is None:
        empty = """; an empty one is "" in a file and '""' in a shell""" if kind is str else ""
        return f"{key} has no value; it must be {kind_in_words(kind)}{empty}"
    if get_origin(kind) is Literal:
        return f"{key}: {first_line(error)}"
    if get_origin(kind) is tuple and isinstance(value, str):
        return f"{key} is {value!r}, which is no list; write {key}=[{value}]"
    return f"{key} is {value!r}; it must be {kind_in_words(kind)}"
