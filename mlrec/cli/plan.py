"""mlrec plan."""

from __future__ import annotations

import argparse

from mlrec.config.arguments import Parser, whole_number
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import say

HELP = "Tell what a run takes on GPUs that are not here: memory, time and price, without weights."

# more than any cluster has: a typing error
MAX_GPUS = 999_999


def add_arguments(parser: Parser) -> None:
    """Add the files and settings of a run, and the GPUs."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="CONFIG | key=value",
        help="as for mlrec train; data.url may be left out, for the counts of MicroLens-50K",
    )
    parser.add_argument(
        "--gpus",
        type=whole_number(1, MAX_GPUS),
        default=1,
        help="number of GPUs, one rank each (default: 1)",
    )
    parser.add_argument(
        "--nodes",
        type=whole_number(1, MAX_GPUS),
        help="machines that hold the GPUs (default: one per 8 GPUs)",
    )
    parser.add_argument(
        "--memory", metavar="SIZE", help="memory of one GPU, such as 80GB (default: that of --gpu)"
    )
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help="a row of mlrec list gpus, for time and price; without it the plan has memory alone",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Print the plan.

    Raises:
        ValueError: the configuration or the GPUs do not fit.
    """
    from mlrec.config import load_arguments
    from mlrec.train.run_plan import plan_run

    plan = plan_run(
        load_arguments(options.words), options.gpus, options.nodes, options.memory, options.gpu
    )
    if options.json:
        print_json(plan.as_json())
    else:
        say("\n".join(plan.describe()))
