"""Read the sources of a configuration: files with their base files, and key=value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlrec.config.keys import Keys
from mlrec.config.kinds import holds_keys, inner_kind, is_structured
from mlrec.config.merging import Setting, Source
from mlrec.config.scalars import Node, Scalar, check_text, shown
from mlrec.config.values import typed
from mlrec.config.yaml_files import SUFFIXES, parse_yaml, read_yaml

FILE_KIND = "configuration file"
COMMAND_LINE = "the command line"
# files that one configuration file may be based on, directly or not
MAX_FILES = 100
MAX_BASE_DEPTH = 10


def file_sources(path: Path, keys: Keys) -> list[Source]:
    """Return what a file's base files set, each after its own base files, and last the file itself.

    Raises:
        ValueError: a file is missing or does not fit, a key is unknown, or a value does not fit its
            key; the message names the file.
    """
    return _FileReader(keys).read(path, within=())


class _FileReader:
    """Reader of a file and its base files, with limits on their number and depth."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._num_files = 0

    def read(self, path: Path, within: tuple[Path, ...]) -> list[Source]:
        """Return the sources of a file that the files `within` are based on, outermost first."""
        # the same file may have several names, such as sub/../a.yaml
        place = path.resolve()
        if place in within:
            circle = " -> ".join(map(str, [*within, place]))
            raise ValueError(f"base files in a circle: {circle}. Remove one of these bases")
        # base: [x, x] in ten files one after another would be 2^10 files
        self._num_files += 1
        if len(within) > MAX_BASE_DEPTH or self._num_files > MAX_FILES:
            raise ValueError(
                f"{path}: more than {MAX_BASE_DEPTH} levels of base files, "
                f"or more than {MAX_FILES} files"
            )
        content = _content(path)
        # base files come first, so that the file itself overrides them
        sources: list[Source] = []
        for base in _bases(content.pop("base", []), path):
            sources += self.read(base, (*within, place))
        sources.append(Source(str(path), self._settings(content, path)))
        return sources

    def _settings(self, content: Mapping[str, Node], path: Path) -> tuple[Setting, ...]:
        try:
            return tuple(_leaves(dict(content), self._keys.root, (), self._keys))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _content(path: Path) -> dict[str, Node]:
    # Of folders and devices `read_yaml` says what they are. A file with another suffix is probably
    # an argument that was meant as something else.
    if os.path.isfile(path) and path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is no YAML file; a {FILE_KIND} has a name in .yaml or .yml")
    content = read_yaml(path, FILE_KIND)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is a list; a {FILE_KIND} must hold keys with their values, such as seed: 3"
        )
    return content


def _bases(node: Node, path: Path) -> list[Path]:
    """Return the base files that a file names, relative to its folder."""
    entries = node if isinstance(node, list) else [Scalar("")]
    names = [entry.text for entry in entries if isinstance(entry, Scalar) and entry.text]
    if len(names) != len(entries):
        example = f"[{node.text}]" if isinstance(node, Scalar) and node.text else "[FILE]"
        raise ValueError(
            f"{path}: base is {shown(node)}; it must be a list of files, write base: {example}"
        )
    for name in names:
        check_text(name, f"{path}: base")
        if "://" in name or not name.endswith(SUFFIXES):
            raise ValueError(
                f"{path}: base is {name!r}; base files are YAML files on this machine, "
                "with names in .yaml or .yml"
            )
    return [path.parent / Path(name).expanduser() for name in names]


def override_source(overrides: Sequence[str], keys: Keys) -> Source:
    """Return what a command line's key=value set.

    The value of a key that is a text is the text after "=", as it is. Lists and options are written
    as in YAML.

    Raises:
        ValueError: one has no "=", the key is unknown, or the value does not fit it.
    """
    settings: list[Setting] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"{override!r} is neither a file nor key=value{_remedy(key, keys)}")
        check_text(key, "the key")
        path = tuple(key.split("."))
        kind = keys.kind_at(path)
        if kind is None:
            raise keys.unknown_key_error(path)
        settings += _leaves(_node_of(text, kind, key), kind, path, keys)
    return Source(COMMAND_LINE, tuple(settings))


def _node_of(text: str, kind: Any, key: str) -> Node:
    # in a shell name= has no value, and name='""' is an empty text
    if text in ('""', "''"):
        return Scalar("", quoted=True)
    if not text or not is_structured(kind):
        return Scalar(text)
    try:
        return parse_yaml(text, key)
    except ValueError as error:
        # a text that does not print, or with credentials, must not be quoted in the message
        check_text(text, key)
        raise ValueError(
            f"{key}: the value {text!r} is not YAML; close its brackets, or put it in quotes"
        ) from error


def _leaves(node: Node, kind: Any, path: tuple[str, ...], keys: Keys) -> list[Setting]:
    """Return the keys at and below `path` that hold no further keys, with typed values."""
    if not isinstance(node, dict) or not (holds_keys(kind) or kind is Any):
        return [Setting(path, typed(node, kind, ".".join(path)))]
    # item: {options: {}} sets a key too, which saved files have
    if not node and path:
        return [Setting(path, {})]
    settings: list[Setting] = []
    for name, value in node.items():
        check_text(name, "the key")
        value_kind = inner_kind(kind, name)
        # the message names the whole path and the keys near it
        if value_kind is None:
            raise keys.unknown_key_error((*path, name))
        settings += _leaves(value, value_kind, (*path, name), keys)
    return settings


def check_words(words: Sequence[str], keys: Keys) -> None:
    """Check that no word would be taken for a file though it is meant as an option or a key.

    Raises:
        ValueError: a word is an option, or resembles a key without a value.
    """
    for word in words:
        if word.startswith("-"):
            raise ValueError(
                f"{word} is no option of this command, which takes files and key=value; "
                "see: mlrec --help"
            )
        # a file may be named like a key
        if is_setting(word) or Path(word).exists():
            continue
        remedy = _remedy(word, keys)
        if remedy:
            raise ValueError(f"{word!r} is neither a file nor key=value{remedy}")


def is_setting(word: str) -> bool:
    """Return whether a word of a command line is key=value.

    A path may hold a "=" too: ./a=b, data/a=b and s3://bucket/a=b are none.
    """
    key, equals, _ = word.partition("=")
    first = key.partition(".")[0]
    return bool(equals and first) and "/" not in first and not first.startswith("~")


def _remedy(word: str, keys: Keys) -> str:
    """Return how to set the key that a word without "=" may stand for, or "" for a file's name."""
    forms = [] if word.endswith(SUFFIXES) else keys.forms_to_set(word)
    return f"; write {' or '.join(forms)}" if forms else ""
