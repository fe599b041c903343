"""The sources of a configuration: files, each after its base files, and key=value of a command line."""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from mlrec.config.keys import near_key, near_keys
from mlrec.config.values import Node, Scalar, check_text, is_structured, shown, typed
from mlrec.config.yaml_files import SUFFIXES, parse_yaml, read_yaml

KIND = "configuration file"
MAX_FILES = 100
"""Base files of one configuration, theirs included."""
MAX_BASE_DEPTH = 10

Kinds = Mapping[str, Any]
"""Every key and every section ("optim.lr", "optim"), with its type."""


@dataclass(frozen=True)
class Setting:
    """A key and the value it is set to."""

    where: str
    """The file, or the key=value as it was given."""
    path: tuple[str, ...]
    """The key by its parts; a part within options may hold dots and slashes."""
    value: Any

    @property
    def key(self) -> str:
        """The key as messages name it."""
        return ".".join(self.path)


def merge_sources(
    defaults: Mapping[str, Any], sources: Iterable[Sequence[Setting]]
) -> dict[str, Any]:
    """Return the tree of defaults with the values of the sources, later ones over earlier ones."""
    merged = copy.deepcopy(dict(defaults))
    for source in sources:
        before, merged = merged, _with(merged, source)
        kept = _without_options_of_gone_rows(before, merged)
        if kept != before:
            merged = _with(kept, source)
    return merged


def _with(tree: dict[str, Any], source: Sequence[Setting]) -> dict[str, Any]:
    merged = copy.deepcopy(tree)
    for setting in source:
        *sections, name = setting.path
        node = merged
        for section in sections:
            if not isinstance(node.get(section), dict):
                node[section] = {}
            node = node[section]
        if setting.value == {} and isinstance(node.get(name), dict):
            continue  # options are added to: none of them changes nothing
        node[name] = copy.deepcopy(setting.value)
    return merged


def file_sources(path: Path, root: Any, kinds: Kinds) -> list[list[Setting]]:
    """Return what a file's base files set, each after its own, and last what the file itself sets.

    Raises:
        ValueError: a file is missing or does not fit, a key is unknown, or a value does not fit its key; the message
            names the file.
    """
    return _Files(root, kinds).sources(path, ())


class _Files:
    """Reads a file and its base files, with bounds on their number and depth."""

    def __init__(self, root: Any, kinds: Kinds) -> None:
        self._root, self._kinds, self._read = root, kinds, 0

    def sources(self, path: Path, above: tuple[Path, ...]) -> list[list[Setting]]:
        place = path.resolve()
        if place in above:
            raise ValueError(f"base files in a circle: {' -> '.join(map(str, [*above, place]))}")
        self._read += 1
        if len(above) > MAX_BASE_DEPTH or self._read > MAX_FILES:
            raise ValueError(
                f"{path}: more than {MAX_BASE_DEPTH} levels of base files, or more than {MAX_FILES} files"
            )
        if os.path.isfile(path) and path.suffix not in SUFFIXES:
            raise ValueError(f"{path} is no YAML file; a {KIND} has a name in .yaml or .yml")
        content = read_yaml(path, KIND)
        if not isinstance(content, dict):
            raise ValueError(
                f"{path} is a list; a {KIND} must hold keys with their values, such as seed: 3"
            )
        bases = _bases(content.pop("base", []), path)
        found = [source for base in bases for source in self.sources(base, (*above, place))]
        return [*found, _settings(content, self._root, self._kinds, str(path))]


def _bases(node: Node, path: Path) -> list[Path]:
    if not isinstance(node, list) or not all(
        isinstance(base, Scalar) and base.text for base in node
    ):
        example = f"[{node.text}]" if isinstance(node, Scalar) and node.text else "[FILE]"
        raise ValueError(
            f"{path}: base is {shown(node)}; it must be a list of files, write base: {example}"
        )
    names = [base.text for base in node if isinstance(base, Scalar)]
    for name in names:
        check_text(name, f"{path}: base")
        if "://" in name or not name.endswith(SUFFIXES):
            raise ValueError(
                f"{path}: base is {name!r}; base files are YAML files on this machine, with names in .yaml or .yml"
            )
    return [path.parent / Path(name).expanduser() for name in names]


def override_source(overrides: Sequence[str], root: Any, kinds: Kinds) -> list[Setting]:
    """Return what a command line's key=value set; they are one source.

    The value of a key that is a text is the text after "=", as it is. Lists and options are written as in YAML.

    Raises:
        ValueError: one has no "=", the key is unknown, or the value does not fit it.
    """
    found: list[Setting] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(
                f"{override!r} is neither a file nor key=value{_key_to_set(override, root, kinds)}"
            )
        check_text(key, "the key")
        path = tuple(key.split("."))
        kind = _kind_at(path, root)
        if kind is None:
            raise ValueError(_unknown(path, root, kinds))
        found += _leaves(_node_of(text, kind, key), kind, path, root, kinds, key)
    return found


def _node_of(text: str, kind: Any, key: str) -> Node:
    if text in ('""', "''"):
        return Scalar("", quoted=True)
    if not text or not is_structured(kind):
        return Scalar(text)
    try:
        return parse_yaml(text, key)
    except ValueError as error:
        check_text(text, key)
        raise ValueError(
            f"{key}: the value {text!r} is not YAML; close its brackets, or put it in quotes"
        ) from error


def kind_at(key: str, root: Any) -> Any:
    """Return the type of a dotted key; None where there is no such key."""
    return _kind_at(key.split("."), root)


def _kind_at(path: Sequence[str], root: Any) -> Any:
    kind = root
    for name in path:
        kind = _kind_within(kind, name)
        if kind is None or not name:
            return None
    return kind


def _kind_within(kind: Any, name: str) -> Any:
    if is_dataclass(kind) or is_typeddict(kind):
        return get_type_hints(kind, include_extras=True).get(name)
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    return Any if kind is Any else None


def check_arguments(arguments: Sequence[str], root: Any, kinds: Kinds) -> None:
    """
    Raises:
        ValueError: a word of a command line is meant as an option, or as a key, and would be taken for a file.
    """
    for word in arguments:
        if word.startswith("-"):
            raise ValueError(
                f"{word} is no option of this command, which takes files and key=value; see: mlrec --help"
            )
        if (
            not is_setting(word)
            and not Path(word).exists()
            and (remedy := _key_to_set(word, root, kinds))
        ):
            raise ValueError(f"{word!r} is neither a file nor key=value{remedy}")


def is_setting(word: str) -> bool:
    """Return whether a word of a command line is key=value; a path may hold a "=" too: ./a=b, data/a=b, s3://bucket/a=b."""
    key, equals, _ = word.partition("=")
    first = key.partition(".")[0]
    return bool(equals and first) and "/" not in first and not first.startswith("~")


def _key_to_set(word: str, root: Any, kinds: Kinds) -> str:
    """The end of a message about a word without "=": how to set the key that it is or is near to, "" for a file's name."""
    if word.endswith(SUFFIXES):
        return ""
    if word not in kinds and _kind_at(word.split("."), root) is not None:
        return f"; write {word}=VALUE"
    near = [] if "/" in word else near_keys(word, list(kinds))
    forms = [f"{key}.KEY=VALUE" if is_dataclass(kinds.get(key)) else f"{key}=VALUE" for key in near]
    return f"; write {' or '.join(forms)}" if forms else ""


def _settings(content: Mapping[str, Node], root: Any, kinds: Kinds, where: str) -> list[Setting]:
    """The keys that a file sets, with values of their types."""
    try:
        return _leaves(dict(content), root, (), root, kinds, where)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _leaves(
    node: Node, kind: Any, path: tuple[str, ...], root: Any, kinds: Kinds, where: str
) -> list[Setting]:
    """The keys below `path` that hold no further keys, with values of their types."""
    holds_keys = is_dataclass(kind) or is_typeddict(kind) or get_origin(kind) is dict
    if not isinstance(node, dict) or not (holds_keys or kind is Any):
        return [Setting(where, path, typed(node, kind, ".".join(path)))]
    if not node and path:
        return [Setting(where, path, {})]
    found: list[Setting] = []
    for name, value in node.items():
        check_text(name, "the key")
        inner = _kind_within(kind, name)
        if inner is None:
            raise ValueError(_unknown((*path, name), root, kinds))
        found += _leaves(value, inner, (*path, name), root, kinds, where)
    return found


def _unknown(path: tuple[str, ...], root: Any, kinds: Kinds) -> str:
    """What is wrong with a key that is none."""
    key = ".".join(path)
    section = _kind_at(path[:-1], root) if len(path) > 1 else None
    if is_typeddict(section):
        options = sorted(get_type_hints(section))
        near = difflib.get_close_matches(path[-1], options, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"an encoder has {', '.join(options)}"
        return f"{key}: unknown option; {hint}"
    if "." in path[-1] and _kind_at(key.split("."), root) is not None:
        return f"unknown key {key!r}; in a file keys are nested, write {_nested(key)}"
    return f"unknown key {key!r}{near_key(key, list(kinds))}"


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
        item = item | {
            "options": {
                name: options for name, options in item["options"].items() if name not in gone
            }
        }
    return before | {"recommender": recommender, "item": item}
