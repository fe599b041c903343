"""The option --json: one JSON document on standard output, and nothing else there."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from mlrec.runtime.printable import is_printable
from mlrec.runtime.terminal import naming_output

FLAG = "--json"
HELP = "print the result as one JSON document, for programs (default: off)"

_BEYOND_ASCII = re.compile(r"[^\n -~]")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command line."""
    parser.add_argument(FLAG, action="store_true", help=HELP)


def print_json(document: Any) -> None:
    """Print the document, with JSON escapes for characters that a terminal would act on."""
    # ASCII only would be safe as well, but unreadable for titles in Chinese.
    text = json.dumps(document, indent=1, ensure_ascii=False)
    with naming_output():
        print(_BEYOND_ASCII.sub(lambda match: _escaped_if_unsafe(match[0]), text))


def _escaped_if_unsafe(character: str) -> str:
    return character if is_printable(character) else json.dumps(character)[1:-1]
