"""The convention of commands: one small module each, which imports heavy libraries when it runs."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlrec.config.arguments import Parser
from mlrec.runtime.terminal import say

# as argparse has them
HELP_FLAGS = ("-h", "--help")
VERSION_FLAG = "--version"


class Command(Protocol):
    """A module that is one command of a program."""

    HELP: str
    """One sentence for the program's help and for the command's own."""
    DESCRIPTION: str
    """What the command reads, does and writes, in a few sentences."""
    EXAMPLE: str
    """Command lines, one per line."""

    def add_arguments(self, parser: Parser) -> None:
        """Describe the command line, with defaults and units, without importing torch."""

    def run(self, options: argparse.Namespace) -> int | None:
        """Do the work. Return the exit code; None is 0."""


@dataclass(frozen=True)
class Program:
    """A program whose first word names a command."""

    name: str
    description: str
    commands: Mapping[str, Command]
    epilog: str = ""

    def run(self, words: Sequence[str]) -> int | None:
        """Run the command that `words` begin with, or print the program's help.

        Returns:
            Exit code of the command; None is 0.

        Raises:
            ValueError: the command is unknown or its command line does not fit.
        """
        # the only flag besides --help that stands without a command
        if list(words) == [VERSION_FLAG]:
            say(self.version())
            return 0
        # before the command's name, too: `deepspeed --module mlrec` inserts the flag there
        words = _without_local_rank(words)
        if not words or words[0] in HELP_FLAGS:
            say(self.help())
            return 0
        # argparse's subparsers would build the parsers of all commands, and could not take
        # key=value after an option
        command = self._command(words[0])
        return command.run(self.parser(words[0]).parse(words[1:]))

    def parser(self, name: str) -> Parser:
        """Return the parser of a command."""
        command = self._command(name)
        parser = Parser(prog=f"{self.name} {name}")
        describe(parser, command.HELP, command.DESCRIPTION, command.EXAMPLE)
        command.add_arguments(parser)
        return parser

    def version(self) -> str:
        """Return the version, with the commit if this is a checkout."""
        from mlrec import __version__
        from mlrec.runtime.versions import commit

        checkout = commit()
        return f"{self.name} {__version__}" + (f" (commit {checkout})" if checkout else "")

    def help(self) -> str:
        """Return the program's help, with one line per command."""
        width = max(map(len, self.commands))
        lines = [f"  {name:{width}}  {command.HELP}" for name, command in self.commands.items()]
        more = (
            f"{self.name} COMMAND --help describes a command's arguments. "
            f"{self.name} --version prints the version."
        )
        completion = (
            "Completion on the Tab key, in bash and zsh: "
            f'eval "$(register-python-argcomplete {self.name})"'
        )
        parts = (
            f"usage: {self.name} COMMAND ...",
            self.description,
            "\n".join(["commands:", *lines]),
            "\n".join([more, self.epilog, completion]),
        )
        return "\n\n".join(parts)

    def _command(self, name: str) -> Command:
        if name in self.commands:
            return self.commands[name]
        near = difflib.get_close_matches(name, self.commands, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"unknown command {name!r}.{hint} {self.name} has {', '.join(self.commands)}; "
            f"see: {self.name} --help"
        )


def describe(parser: Parser, summary: str, description: str, example: str) -> None:
    """Set the texts before and after the arguments in a command's help."""
    parser.description = f"{summary}\n\n{description}"
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    parser.epilog = f"example:\n{lines}"


def _without_local_rank(words: Sequence[str]) -> list[str]:
    """Return the words without `--local_rank`, which the deepspeed launcher adds.

    The launcher also sets LOCAL_RANK, which `mlrec.runtime.rendezvous` reads.
    """
    # No help and no abbreviations: everything but this flag is left to the command's parser. Both
    # forms are in use, --local_rank=0 and --local_rank 0.
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--local_rank")
    _, others = parser.parse_known_args(words)
    return list(others)


def add_overrides(parser: Parser) -> None:
    """Add key=value, settings that override those of a run."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings that override those of the run, such as data.url=URL if the data set has "
        "moved (default: none)",
    )
