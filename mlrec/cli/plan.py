"""mlrec plan."""

from __future__ import annotations

import argparse

from mlrec.config.arguments import Parser, whole_number
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import say

HELP = "Tell what a run takes on GPUs that are not here: memory, time and price, without weights."
DESCRIPTION = """\
The plan needs no weights, no GPU and no data, only the configuration. If the run does not fit into
the GPUs' memory, the plan names settings with which it fits. --gpu adds time and price."""
EXAMPLE = """\
mlrec plan configs/experiment/microlens_100k_sasrec_v.yaml --gpus 8 --gpu h100"""

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
        metavar="N",
        help="number of GPUs, one rank each (default: %(default)s)",
    )
    parser.add_argument(
        "--nodes",
        type=whole_number(1, MAX_GPUS),
        metavar="N",
        help="number of machines that hold the GPUs (default: one per 8 GPUs)",
    )
    parser.add_argument(
        "--memory", metavar="SIZE", help="memory of one GPU, such as 80GB (default: that of --gpu)"
    )
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help="a row of mlrec list gpus, for time and price (default: none, and the plan is of "
        "memory alone)",
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
