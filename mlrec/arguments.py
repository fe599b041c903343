"""Command lines: one sentence for what does not fit, and numbers read as strictly as in configurations."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from mlrec.bounds import Between
from mlrec.credentials import check_no_credentials
from mlrec.values import Scalar, typed


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ValueError, with one sentence and without the usage, which may take a page."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words of a command line, none of which may hold credentials."""
        for word in args or ():
            check_no_credentials(word)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """
        Raises:
            ValueError: always.
        """
        raise ValueError(f"{message}; see: {self.prog} --help")


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
