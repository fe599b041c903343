"""mlrec evaluate."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mlrec.cli.commands import add_overrides
from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import print_table

if TYPE_CHECKING:
    from mlrec.evaluation.results import Results

HELP = "Rank the full catalogue for every user with a run's best checkpoint."
DESCRIPTION = """\
Prints metrics for all users and for groups of users, next to baselines. Writes them to the run's
folder. Under a launcher all ranks take part."""
EXAMPLE = """\
mlrec evaluate runs/quickstart_video --split validation"""


def add_arguments(parser: Parser) -> None:
    """Add the run and the split."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    add_overrides(parser)
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="split whose held-out items are ranked (default: %(default)s)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Evaluate on all ranks; rank 0 prints the metrics."""
    from mlrec.data.stream import open_data
    from mlrec.evaluation.run_evaluation import evaluate_run
    from mlrec.runs.run import load_trained
    from mlrec.runtime.distributed import start_world, stop_world

    # before the ranks meet, so that a mistake ends all of them at once
    config = load_trained(options.run, options.overrides)
    world = start_world()
    # collective: every rank encodes and ranks its share; rank 0 writes the files and prints
    results = evaluate_run(config, open_data(config.data), world, options.split)
    if world.is_main and options.json:
        print_json(asdict(results))
    elif world.is_main:
        _print_table(results)
    stop_world()


def _print_table(results: Results) -> None:
    """Print the metrics of the groups of users, and of all users' baselines."""
    rows = dict(results.metrics)
    for name, summary in results.baselines.items():
        # a baseline is a row for all users; its groups are in results.json
        rows[name] = summary["all"]
    # the number of users is no metric, and has a column and a format of its own
    metrics = [name for name in rows["all"] if name != "users"]
    lines = []
    for group, values in rows.items():
        # oracle.json has the default cut-offs alone
        cells = [f"{values[name]:.4f}" if name in values else "–" for name in metrics]
        lines.append((group, f"{values['users']:,.0f}", *cells))
    print_table((f"{results.split} split", "users", *metrics), lines)
