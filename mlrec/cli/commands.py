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


class Command(Protocol):
    """A module that is one command of a program."""

    HELP: str
    """One sentence for the program's help and for the command's own."""

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
        # before the command's name, too: `deepspeed --module mlrec` inserts the flag there
        words = _without_local_rank(words)
        if not words or words[0] in HELP_FLAGS:
            say(self.help())
            return 0
        # argparse's subparsers would build the parsers of all commands, and could not take
        # key=value after an option
        command = self._command(words[0])
        parser = Parser(prog=f"{self.name} {words[0]}", description=command.HELP)
        command.add_arguments(parser)
        return command.run(parser.parse(words[1:]))

    def help(self) -> str:
        """Return the program's help, with one line per command."""
        width = max(map(len, self.commands))
        lines = [f"  {name:{width}}  {command.HELP}" for name, command in self.commands.items()]
        more = f"{self.name} COMMAND --help describes a command's arguments."
        parts = (
            f"usage: {self.name} COMMAND ...",
            self.description,
            "\n".join(["commands:", *lines]),
            "\n".join([more, self.epilog]).rstrip(),
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
        help="override settings of the run, such as data.url=URL if the data set has moved",
    )
