"""YAML files that a user names, read strictly: plain mappings, lists and scalars.

The files may come from strangers, as a configuration that is shared with a model does. So nothing
is constructed, resolved or repeated, sizes are bounded, and every scalar keeps its text.
"""

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

# a configuration has a few hundred bytes
MAX_FILE_BYTES = 1_000_000
# configurations of encoders nest a few levels; Python's recursion would end after hundreds
MAX_DEPTH = 16
SUFFIXES = (".yaml", ".yml")

# libyaml's parser, which PyYAML may be built without, is 20 times as fast
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, kind: str) -> Node:
    """Return the content of a file.

    Args:
        kind: what a user calls such a file, for messages.

    Raises:
        ValueError: it cannot be read, is not YAML, or uses anchors, aliases or tags; the message
            names a file with a similar name, or the line.
    """
    content = parse_yaml(_read(path, kind), str(path))
    if content == Scalar(""):
        return {}
    if isinstance(content, Scalar):
        raise ValueError(f"{path} is a single value; a {kind} must hold keys with their values")
    return content


def parse_yaml(text: str, where: str) -> Node:
    """Return the only document of a text; that of an empty text is an empty scalar.

    Raises:
        ValueError: it is not YAML, or uses more than mappings, lists and scalars; the message
            begins with `where`.
    """
    try:
        return _Parser(yaml.parse(text, Loader=_LOADER), where).document()
    except YAMLError as error:
        raise ValueError(f"{where} is not YAML: {_fault(error)}") from error


def to_yaml(tree: Any) -> str:
    """Return plain values as YAML, which `read_yaml` reads back to the same values."""
    # without a width, PyYAML would break long texts into lines
    text: str = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Writer that puts texts in quotes which `scalars` would read as numbers."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 takes for a number, and 1e-4 is a text there
    style = "'" if is_number(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


class _Parser:
    """Builder of a tree from the events of PyYAML's parser.

    The loaders of PyYAML would resolve 0123 to 83 and expand aliases, of which a few lines can make
    gigabytes.
    """

    def __init__(self, events: Iterator[Any], where: str) -> None:
        self._events = events
        self._where = where

    def document(self) -> Node:
        """Return the tree of the only document."""
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return Scalar("")
        content = self._node(next(self._events), 0)
        next(self._events)  # the end of the document
        event = next(self._events)
        if isinstance(event, yaml.DocumentStartEvent):
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
        entries: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            entries.append(self._node(event, depth + 1))
        return entries

    def _mapping(self, start: Any, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            # << merges another mapping in YAML 1.1
            if not isinstance(key, Scalar) or key == Scalar("<<"):
                raise self._error(event, "a key must be a plain text")
            # PyYAML would take the last value, and hide the mistake
            if key.text in entries:
                first_line = start.start_mark.line + 1
                raise self._error(
                    event,
                    f"the key {printable(key.text)!r} occurs twice in the mapping that begins in "
                    f"line {first_line}",
                )
            entries[key.text] = self._node(next(self._events), depth + 1)
        return entries

    def _error(self, event: Any, fault: str) -> ValueError:
        return ValueError(f"{self._where}: line {event.start_mark.line + 1}: {fault}")


def _read(path: Path, kind: str) -> str:
    """Return the text of a regular file.

    Raises:
        ValueError: it is missing, of another kind, too large, or not UTF-8.
    """
    try:
        raw = _read_bytes(path, kind)
        # editors on Windows begin files with a byte order mark
        return raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(f"there is no {kind} {path}{_near_file(path)}") from error
    except IsADirectoryError as error:
        inside = sorted(path.glob("*.yaml"))
        hint = f"name a file in it, such as {inside[0]}" if inside else "it holds no YAML file"
        raise ValueError(f"{path} is a folder, not a {kind}; {hint}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error


def _read_bytes(path: Path, kind: str) -> bytes:
    # opening a FIFO without a writer would block forever
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is no regular file; a {kind} must be one")
        # the size of a growing file is known only after reading
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(
            f"{path} is larger than {MAX_FILE_BYTES:,} bytes, which no {kind} is; name another file"
        )
    return raw


def _near_file(path: Path) -> str:
    names = [other.name for other in path.parent.glob("*.yaml")]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def _fault(error: YAMLError) -> str:
    """Return what is wrong with a text that is not YAML, and in which line."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return str(error).strip().splitlines()[0]
    line = error.problem_mark.line + 1
    if not error.context:
        return f"line {line}: {error.problem}"
    # such as "while parsing a flow sequence": it may begin many lines above
    begin = error.context_mark
    where = f" that begins in line {begin.line + 1}" if begin and begin.line + 1 != line else ""
    return f"line {line}: {error.context}{where}, {error.problem}"
