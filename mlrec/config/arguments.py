"""The command-line parser that all commands share, and the types of numbers on command lines."""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from typing import Annotated, Any, NoReturn

from mlrec.config.bounds import Between
from mlrec.config.scalars import Scalar
from mlrec.config.values import typed
from mlrec.runtime.credentials import check_no_credentials
from mlrec.runtime.printable import printable


class _HelpFormatter(argparse.HelpFormatter):
    """A formatter that keeps the paragraphs of descriptions and epilogs.

    Indented lines, such as examples and lists, are left as they are.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for is_verbatim, group in groupby(text.splitlines(), _is_verbatim):
            paragraph = list(group)
            lines += paragraph if is_verbatim else textwrap.wrap(" ".join(paragraph), width)
        return "\n".join(lines)


def _is_verbatim(line: str) -> bool:
    return not line or line.startswith(" ")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ValueError with one sentence instead of printing its usage."""

    def __init__(self, **options: Any) -> None:
        """Take the options of argparse.ArgumentParser."""
        super().__init__(formatter_class=_HelpFormatter, **options)

    _words: Sequence[str] = ()
    """Words of the command line, for messages."""

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the arguments, whose options may stand before, between and after the others.

        Raises:
            ValueError: the command line does not fit.
        """
        if self._subparsers is None:
            return self.parse_intermixed_args(words)
        # argparse cannot intermix where a subcommand has a parser of its own
        return self.parse_args(words)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words of a command line, none of which may hold credentials."""
        words = list(args or ())
        # before any message could quote a word
        for word in words:
            check_no_credentials(word)
        # argparse gives `error` only a message
        self._words = words
        # "--option WORD" would otherwise take a positional argument for the option's value
        words = [f"{word}=" if self._has_optional_value(word) else word for word in words]
        return super().parse_known_args(words, namespace)

    def _has_optional_value(self, option: str) -> bool:
        """Return whether the value of `option` is optional; it is written `--option=VALUE`."""
        action = self._option_string_actions.get(option)
        return action is not None and action.nargs == "?"

    def error(self, message: str) -> NoReturn:
        """Raise the message as a ValueError with a remedy.

        Raises:
            ValueError: always.
        """
        message, names = self._without_optional(message)
        # argparse reports what is missing first, although a misspelled option explains it
        unknown = self._unknown_option() if names else ""
        if unknown:
            message = f"unrecognized arguments: {unknown}"
        raise ValueError(
            f"{message}{self._remedy(message)}{self._suggestion()}; see: {self.prog} --help"
        )

    def _without_optional(self, message: str) -> tuple[str, str]:
        """Return a message without arguments that may be left out, and the missing ones in it."""
        start = "the following arguments are required: "
        if not message.startswith(start):
            return message, ""
        optional = {
            action.metavar or action.dest for action in self._actions if action.nargs in ("*", "?")
        }
        names = message.removeprefix(start).split(", ")
        missing = ", ".join(name for name in names if name not in optional)
        return start + missing, missing

    def _unknown_option(self) -> str:
        """Return the first long option of the command line that no option begins with, or ""."""
        for word in self._words:
            option = word.partition("=")[0]
            is_known = any(name.startswith(option) for name in self._option_string_actions)
            if option.startswith("--") and option != "--" and not is_known:
                return option
        return ""

    def _suggestion(self) -> str:
        """Return the option that was probably meant by a misspelled one, as part of a message."""
        near = difflib.get_close_matches(self._unknown_option(), self._option_string_actions, n=1)
        return f"; did you mean {near[0]}?" if near else ""

    def _remedy(self, message: str) -> str:
        """Return how to write a value that begins with a dash, if the message is about one."""
        lacking = re.fullmatch(r"argument (\S+): expected one argument", message)
        options = lacking[1].split("/") if lacking else []
        for option, value in pairwise(self._words):
            if option in options and option.startswith("--") and value.startswith("-"):
                shown_value = printable(value, 60)
                return f"; for a value that begins with a dash write {option}={shown_value}"
        return ""


def whole_number(low: int = 0, high: int = (1 << 31) - 1) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number from `low` to `high`."""
    return _reader(Annotated[int, Between(low, high)])


def number(low: float = 0, high: float = 1e12) -> Callable[[str], float]:
    """Return the type of an argument that is a number from `low` to `high`."""
    return _reader(Annotated[float, Between(low, high)])


# int() and float() would take 1_000, "\u0663" and " 5 ", which configurations refuse
def _reader(kind: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return typed(Scalar(text), kind, "the value")
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read
