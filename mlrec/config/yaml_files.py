"""YAML files that a user names, read strictly: plain mappings, lists and scalars, each scalar with its text."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml import MarkedYAMLError, YAMLError

from mlrec.config.scalars import Node, Scalar, is_number
from mlrec.runtime.printable import printable

MAX_FILE_BYTES = 1_000_000
"""Larger files are refused; a configuration has a few hundred bytes."""
MAX_DEPTH = 16
SUFFIXES = (".yaml", ".yml")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where PyYAML was built with it: 20 times as fast."""


def read_yaml(path: Path, kind: str) -> Node:
    """Return the content of the file.

    Args:
        kind: what a user calls such a file, for messages.

    Raises:
        ValueError: it cannot be read, or is not YAML, or uses anchors, aliases or tags; the message names the near
            file, or the line.
    """
    content = parse_yaml(_read(path, kind), str(path))
    if content == Scalar(""):
        return {}
    if isinstance(content, Scalar):
        raise ValueError(f"{path} is a single value; a {kind} must hold keys with their values")
    return content


def parse_yaml(text: str, where: str) -> Node:
    """Return the one document of a text; an empty one is an empty scalar.

    Raises:
        ValueError: it is not YAML, or uses more than mappings, lists and scalars; the message begins with `where`.
    """
    try:
        return _Parser(yaml.parse(text, Loader=_LOADER), where).document()
    except YAMLError as error:
        raise ValueError(f"{where} is not YAML: {_fault(error)}") from error


def to_yaml(tree: Any) -> str:
    """Return plain values as YAML, which `read_yaml` reads back to the same."""
    text: str = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Writes texts in quotes that `values` would read as numbers, such as 1e-4, which is a text to YAML 1.1."""


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="'" if is_number(text) else None
    )


_Dumper.add_representer(str, _quoted)


class _Parser:
    """Builds the tree from the parser's events, so that nothing is constructed, resolved or repeated."""

    def __init__(self, events: Iterator[Any], where: str) -> None:
        self._events, self._where = events, where

    def document(self) -> Node:
        next(self._events)
        if isinstance(event := next(self._events), yaml.StreamEndEvent):
            return Scalar("")
        content = self._node(next(self._events), 0)
        next(self._events)
        if isinstance(event := next(self._events), yaml.DocumentStartEvent):
            raise self._error(event, "a second document begins; write one document")
        return content

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise self._error(
                event, "anchors and aliases are not supported; write the value itself"
            )
        if getattr(event, "tag", None) is not None:
            raise self._error(event, f"the tag {event.tag!r} is not supported; leave it out")
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, depth)
        return Scalar(event.value, quoted=bool(event.style))

    def _list(self, depth: int) -> list[Node]:
        found: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._node(event, depth + 1))
        return found

    def _mapping(self, start: Any, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar) or key == Scalar("<<"):
                raise self._error(event, "a key must be a plain text")
            if key.text in found:
                begin = start.start_mark.line + 1
                raise self._error(
                    event,
                    f"the key {printable(key.text)!r} occurs twice in the mapping that begins in line {begin}",
                )
            found[key.text] = self._node(next(self._events), depth + 1)
        return found

    def _error(self, event: Any, fault: str) -> ValueError:
        return ValueError(f"{self._where}: line {event.start_mark.line + 1}: {fault}")


def _read(path: Path, kind: str) -> str:
    try:
        # a FIFO without a writer would block for ever
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise IsADirectoryError
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ValueError(f"{path} is no regular file; a {kind} must be one")
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise ValueError(
                f"{path} is larger than {MAX_FILE_BYTES:,} bytes, which no {kind} is; name another file"
            )
        return raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        near = difflib.get_close_matches(
            path.name, [other.name for other in path.parent.glob("*.yaml")], n=1
        )
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ValueError(f"there is no {kind} {path}{hint}") from error
    except IsADirectoryError as error:
        inside = sorted(path.glob("*.yaml"))
        hint = f"name a file in it, such as {inside[0]}" if inside else "it holds no YAML file"
        raise ValueError(f"{path} is a folder, not a {kind}; {hint}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error


def _fault(error: YAMLError) -> str:
    """What is wrong with a text that is not YAML, and in which line."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return str(error).strip().splitlines()[0]
    line, begin = error.problem_mark.line + 1, error.context_mark
    within = f" that begins in line {begin.line + 1}" if begin and begin.line + 1 != line else ""
    return f"line {line}: {f'{error.context}{within}, ' if error.context else ''}{error.problem}"
