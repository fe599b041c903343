"""--json: what a command found as one JSON document on standard output, with nothing else there, for programs."""

from __future__ import annotations

import argparse
import json
from typing import Any

FLAG = "--json"
HELP = "print the result as one JSON document, for programs"


def add_json(parser: argparse.ArgumentParser) -> None:
    """Gives a command line the flag."""
    parser.add_argument(FLAG, action="store_true", help=HELP)


def print_json(document: Any) -> None:
    """Prints the document."""
    print(json.dumps(document, indent=1, ensure_ascii=False))
