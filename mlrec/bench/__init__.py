"""mlrec bench: where the time goes on this machine; every figure beside the limit that was measured in the same run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mlrec.bench import evaluation, loader, prefix, scale, step
from mlrec.bench.result import show
from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json

BENCHES = {"loader": loader, "step": step, "prefix": prefix, "eval": evaluation, "scale": scale}
"""A module each: HELP, add_arguments(parser), and run(options) to a Result, None on all ranks but the first."""


def main(arguments: Sequence[str]) -> None:
    """Runs a bench: loader URL | step CONFIG | prefix CONFIG | eval CONFIG | scale URL; a CONFIG's under a launcher too."""
    parser = Parser(prog="mlrec bench", description=__doc__)
    parser.add_argument(
        "--local_rank", help=argparse.SUPPRESS
    )  # the deepspeed launcher adds it; the environment says the same
    commands = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    for name, bench in BENCHES.items():
        command = commands.add_parser(name, help=bench.HELP, description=bench.HELP)
        bench.add_arguments(command)
        add_json(command)
    options = parser.parse_args(arguments)
    result = BENCHES[options.bench].run(options)
    if result is not None:
        show(result, options.json)
