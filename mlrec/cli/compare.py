"""mlrec compare."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import print_table, say

HELP = "Test user by user whether the difference of two runs is more than chance."
DESCRIPTION = """\
Both runs must have ranked the same test users. For each metric the command prints both means with
standard errors, their difference, and the p-value of a paired test."""
EXAMPLE = """\
mlrec compare runs/quickstart_video runs/quickstart_id"""


def add_arguments(parser: Parser) -> None:
    """Add the two runs."""
    # two arguments instead of nargs=2, which would list RUN once in the usage
    parser.add_argument("first", type=Path, metavar="RUN", help="folder of the first run")
    parser.add_argument("second", type=Path, metavar="RUN", help="folder of the second run")
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Compare, and print one row per metric: means with standard errors, difference and p."""
    from mlrec.config.run_files import run_names
    from mlrec.evaluation.compare import compare

    rows = compare(options.first, options.second)
    if options.json:
        metrics = [asdict(row) for row in rows]
        print_json({"first": str(options.first), "second": str(options.second), "metrics": metrics})
        return
    # runs of the same name get as many parent folders as tell them apart
    header = ("metric", *run_names([options.first, options.second]), "difference", "p")
    cells = []
    for row in rows:
        cells.append(
            (
                row.metric,
                f"{row.first:.4f} ± {row.first_error:.4f}",
                f"{row.second:.4f} ± {row.second_error:.4f}",
                f"{row.difference:+.4f} ± {row.difference_error:.4f}",
                f"{row.p:.2g}",
            )
        )
    print_table(header, cells)
    first, second = header[1:3]
    say(f"difference: {second} minus {first}; p: paired test over the users")
