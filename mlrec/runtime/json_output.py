"""--json: what a command found as one JSON document on standard output, with nothing else there, for programs."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from mlrec.runtime.printable import is_printable

FLAG = "--json"
HELP = "print the result as one JSON document, for programs"

_BEYOND_ASCII = re.compile(r"[^\n -~]")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a command line the flag."""
    parser.add_argument(FLAG, action="store_true", help=HELP)


def print_json(document: Any) -> None:
    """Print the document: the original text, with what a terminal would act on written as JSON's escapes."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    print(_BEYOND_ASCII.sub(lambda match: _harmless(match[0]), text))


def _harmless(character: str) -> str:
    return character if is_printable(character) else json.dumps(character)[1:-1]
