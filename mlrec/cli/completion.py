"""Completion of command lines on the Tab key, with argcomplete.

The shell runs the program itself with `_ARGCOMPLETE` and the line in its environment, so this
module and what it imports must load fast.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.config.arguments import Parser

if TYPE_CHECKING:
    from mlrec.cli.commands import Program

# "auto | int" may also be a number, which no list can offer
OPEN_TYPES = ("", "str", "int", "float")

Completer = Callable[..., list[str]]
"""Takes the keyword `prefix`, the word so far, and returns whole words."""


def is_requested() -> bool:
    """Return whether the shell runs this program to complete a command line."""
    return "_ARGCOMPLETE" in os.environ


def complete(program: Program) -> None:
    """Print the words that may follow on the shell's command line, and end this process."""
    import argcomplete

    argcomplete.autocomplete(parser_of(program), always_complete_options=False)


def parser_of(program: Program) -> Parser:
    """Return one parser of all commands, whose arguments know how they are completed."""
    # a parser of the program's own would complete --help and --version after a command too
    parser = Parser(prog=program.name)
    parser.add_argument("--version", action="store_true")
    subparsers = parser.add_subparsers()
    line = os.environ["COMP_LINE"].split()
    for name, command in program.commands.items():
        command_parser = subparsers.add_parser(name, help=command.HELP)
        # the arguments of other commands would take time
        if name in line:
            command.add_arguments(command_parser)
    for each in _with_subparsers(subparsers.choices):
        for action in each._actions:
            completer = COMPLETERS.get(str(action.metavar))
            if completer is not None:
                # argcomplete reads this attribute
                action.completer = completer
    return parser


def _with_subparsers(parsers: Mapping[str, Any]) -> Iterator[Any]:
    for parser in parsers.values():
        yield parser
        if parser._subparsers is not None:
            yield from _with_subparsers(parser._subparsers._group_actions[0].choices)


def configuration_files(prefix: str, **context: Any) -> list[str]:
    """Return the YAML files and the folders whose path begins with `prefix`."""
    return _paths(prefix, (".yaml", ".yml"))


def folders(prefix: str, **context: Any) -> list[str]:
    """Return the folders whose path begins with `prefix`."""
    return _paths(prefix, ())


def settings(prefix: str, **context: Any) -> list[str]:
    """Return the keys of a configuration, or the values of a key that has few."""
    from mlrec.cli.row_names import row_names
    from mlrec.config import keys

    key, equals, value = prefix.partition("=")
    if not equals:
        return [f"{name}=" for name in keys()]
    row = keys().get(key)
    kind = row.type if row is not None else ""
    if names := row_names(key):
        # the names before the last one in a list, such as [id/embedding,
        before = value[: 1 + max(map(value.rfind, "[, "))]
        if kind.startswith("tuple") and not before:
            before = "["
        return [f"{key}={before}{name}" for name in names]
    choices = ["false", "true"] if kind == "bool" else kind.split(" | ")
    return [f"{key}={choice}" for choice in choices if choice not in OPEN_TYPES]


def settings_or_files(prefix: str, **context: Any) -> list[str]:
    """Return configuration files, folders and settings."""
    return configuration_files(prefix) + settings(prefix)


COMPLETERS: dict[str, Completer] = {
    "CONFIG": settings_or_files,
    "CONFIG | key=value": settings_or_files,
    "CONFIG | OUT | key=value": settings_or_files,
    "key=value": settings,
    "FILE": configuration_files,
    "RUN": folders,
}
"""How arguments are completed, by their metavar. argcomplete completes others with files."""


def _paths(prefix: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the folders, with a slash, and the files with these suffixes."""
    parent, slash, beginning = prefix.rpartition("/")
    folder = parent + slash
    paths = []
    for path in sorted(Path(folder or ".").expanduser().glob("*")):
        if path.name.startswith(".") and not beginning.startswith("."):
            continue
        if path.is_dir():
            paths.append(f"{folder}{path.name}/")
        elif path.name.endswith(suffixes) and suffixes:
            paths.append(f"{folder}{path.name}")
    return paths
