"""mlrec bench, with one subcommand per benchmark."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlrec.cli.commands import describe
from mlrec.config.arguments import Parser, number, whole_number
from mlrec.runtime.json_output import add_json

HELP = "Measure what this machine reaches next to its limits, and where the time goes."
DESCRIPTION = """\
Each figure is printed next to a limit that is measured in the same run. step, prefix and eval also
run under a launcher: torchrun -m mlrec bench step CONFIG."""
EXAMPLE = """\
mlrec bench step configs/experiment/quickstart_video.yaml --steps 5"""


@dataclass(frozen=True)
class Bench:
    """A benchmark."""

    help: str
    description: str
    example: str
    """Arguments after `mlrec bench NAME`."""
    add_arguments: Callable[[Parser], None]
    module: str
    """Module whose `run(options)` measures, and returns a Result on rank 0, None on other ranks."""


def add_arguments(parser: Parser) -> None:
    """Add the subcommands."""
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    # all five are built, because argparse lists them in the help; they are cheap
    for name, bench in BENCHES.items():
        bench_parser = benches.add_parser(name, help=bench.help)
        example = f"mlrec bench {name} {bench.example}"
        describe(bench_parser, bench.help, bench.description, example)
        bench.add_arguments(bench_parser)
        add_json(bench_parser)


def run(options: argparse.Namespace) -> None:
    """Measure, and print the figures on rank 0."""
    from mlrec.bench.result import show

    # a name, not an import, so that no other bench is loaded
    module = importlib.import_module(BENCHES[options.bench].module)
    # collective for step, prefix, eval and scale, which run under a launcher too
    result = module.run(options)
    if result is not None:
        show(result, options.json)


def _add_loader(parser: Parser) -> None:
    # decoding uses a whole core per process
    cores = os.cpu_count() or 1
    parser.add_argument(
        "url", metavar="URL", help="folder or URL of a packed data set with videos or covers"
    )
    parser.add_argument(
        "--workers",
        type=whole_number(),
        default=cores,
        metavar="N",
        help="most loader processes to measure (default: the CPU cores, %(default)s)",
    )
    parser.add_argument(
        "--global-batch",
        type=whole_number(),
        default=128,
        metavar="USERS",
        help="users per step (default: %(default)s)",
    )
    _add_steps(parser, default=12, what="steps per worker")


def _add_step(parser: Parser) -> None:
    _add_config(parser)
    _add_steps(parser, default=3, what="measured steps, after one to warm up")
    parser.add_argument(
        "--baseline",
        choices=("padded", "plain"),
        help="also measure the same global batch: `padded` encodes every padded slot, `plain` is a "
        "PyTorch loop without mlrec, for id/embedding with sasrec (default: off)",
    )


def _add_prefix(parser: Parser) -> None:
    _add_config(parser, "as for mlrec train, with item.tuning=top or half")
    _add_steps(parser, default=3, what="measured pairs of steps, after one pair to warm up")


def _add_eval(parser: Parser) -> None:
    _add_config(parser)
    _add_steps(parser, default=20, what="chunks of evaluate.user_chunk users to rank")


def _add_scale(parser: Parser) -> None:
    parser.add_argument("url", metavar="URL", help="folder or URL of a packed data set")
    parser.add_argument(
        "config",
        nargs="*",
        metavar="CONFIG",
        help="files and key=value of the model whose rates are measured (default: none)",
    )
    parser.add_argument(
        "--users-per-rank",
        type=whole_number(),
        default=512,
        metavar="USERS",
        help="users per rank of the batch that grows with the ranks (default: %(default)s)",
    )
    parser.add_argument(
        "--global-batch",
        type=whole_number(),
        default=8192,
        metavar="USERS",
        help="users of the batch whose size is fixed (default: %(default)s)",
    )
    _add_rates(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE.svg", help="picture of the table to write (default: none)"
    )


def _add_rates(parser: Parser) -> None:
    """Add the rates that a prediction multiplies with; rates that are not set are measured."""
    parser.add_argument(
        "--videos-per-s",
        type=number(),
        metavar="RATE",
        help="videos per second that a rank trains on (default: measured with CONFIG's item tower)",
    )
    parser.add_argument(
        "--gb-per-s",
        type=number(),
        metavar="RATE",
        help="GB per second that a rank exchanges (default: measured between the launcher's ranks; "
        "on one rank the memory's rate, an upper bound)",
    )


def _add_config(parser: Parser, text: str = "as for mlrec train: files and key=value") -> None:
    parser.add_argument("config", nargs="+", metavar="CONFIG", help=text)


def _add_steps(parser: Parser, default: int, what: str) -> None:
    parser.add_argument(
        "--steps",
        type=whole_number(),
        default=default,
        metavar="N",
        help=f"{what} (default: %(default)s)",
    )


BENCHES = {
    "loader": Bench(
        "Videos and MB per second of the input path, and where loader processes spend their time.",
        "Reads and decodes the items of real steps with 0 processes, 1, 2 and so on. The limits "
        "are bare reads and bare decoding of the same items.",
        "runs/quickstart/data --workers 4",
        _add_loader,
        "mlrec.bench.loader",
    ),
    "step": Bench(
        "Users and videos per second of a training step on made-up media, with memory and FLOP/s.",
        "Media are random and in memory, so neither storage nor decoding takes part. The limit "
        "is the speed of matrix products on the same device.",
        "configs/experiment/quickstart_video.yaml --baseline padded",
        _add_step,
        "mlrec.bench.step",
    ),
    "prefix": Bench(
        "A training step with cached activations of the frozen stages, next to one without.",
        "Shows what the activation cache saves from the second epoch on.",
        "configs/bench/videomae_base_top.yaml train.global_batch=1",
        _add_prefix,
        "mlrec.bench.prefix",
    ),
    "eval": Bench(
        "Users per second of full ranking on random weights, next to a bare product with top-k.",
        "Vectors are random, and data.url gives the number of users and items.",
        "configs/experiment/quickstart_id.yaml --steps 10",
        _add_eval,
        "mlrec.bench.evaluation",
    ),
    "scale": Bench(
        "Predicted step time, items and bytes per rank on 1 to 4,096 ranks for a data set.",
        "Plans real steps of the data set. Their times follow from rates that are given or "
        "measured.",
        "runs/quickstart/data --videos-per-s 300 --gb-per-s 40",
        _add_scale,
        "mlrec.bench.scale",
    ),
}
