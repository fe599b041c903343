"""Command lines: one sentence for what does not fit, and numbers read as strictly as in configurations."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any, NoReturn

from mlrec.config.bounds import Between
from mlrec.config.values import Scalar, typed
from mlrec.runtime.credentials import check_no_credentials
from mlrec.runtime.printable import printable


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ValueError, with one sentence and without the usage, which may take a page."""

    _words: Sequence[str] = ()
    """Those of the command line, for messages."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words of a command line, none of which may hold credentials."""
        for word in args or ():
            check_no_credentials(word)
        self._words = args or ()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """
        Raises:
            ValueError: always.
        """
        raise ValueError(f"{message}{self._remedy(message)}; see: {self.prog} --help")

    def _remedy(self, message: str) -> str:
        """Return how a value that begins with a dash is given, if the message is about one."""
        lacking = re.fullmatch(r"argument (\S+): expected one argument", message)
        options = lacking[1].split("/") if lacking else []
        for option, value in pairwise(self._words):
            if option in options and option.startswith("--") and value.startswith("-"):
                return (
                    f"; for a value that begins with a dash write {option}={printable(value, 60)}"
                )
        return ""


def whole_number(low: int = 0, high: int = (1 << 31) - 1) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number from `low` to `high`."""
    return _reader(Annotated[int, Between(low, high)])


def number(low: float = 0, high: float = 1e12) -> Callable[[str], float]:
    """Return the type of an argument that is a number from `low` to `high`."""
    return _reader(Annotated[float, Between(low, high)])


def _reader(kind: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return typed(Scalar(text), kind, "the value")
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read
