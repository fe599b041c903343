"""mlrec-shards synthetic."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlrec.config.arguments import Parser, whole_number
from mlrec.runtime.printable import counted
from mlrec.runtime.terminal import say
from shards_tools.commands.common import add_workers

HELP = "Write a synthetic raw folder whose best possible recommendations are known."
DESCRIPTION = """\
The folder has videos, covers, titles and interactions in the layout of MicroLens. They are drawn
from a known model, so the best possible metrics are known too."""
EXAMPLE = """\
mlrec-shards synthetic runs/quickstart/raw --users 4000 --items 300"""


def add_arguments(parser: Parser) -> None:
    """Add the folder, and what it is drawn from."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument(
        "--users",
        type=whole_number(),
        default=4000,
        metavar="N",
        help="number of users (default: %(default)s)",
    )
    parser.add_argument(
        "--items",
        type=whole_number(),
        default=600,
        metavar="N",
        help="number of items, 40 or more (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(),
        default=0,
        metavar="N",
        help="seed of all random numbers (default: %(default)s)",
    )
    parser.add_argument(
        "--times",
        action="store_true",
        help="write interactions with times, for mlrec-shards make --split time (default: off)",
    )
    add_workers(parser)


def run(options: argparse.Namespace) -> None:
    """Write the folder unless it is complete."""
    from shards_tools.synthetic.make import make_synthetic

    out: Path = options.out
    is_new = make_synthetic(
        out, options.users, options.items, options.seed, options.workers, options.times
    )
    # an existing folder with the same arguments is the same folder, byte by byte
    if is_new:
        say(f"{out}: {counted(options.users, 'user')}, {counted(options.items, 'item')}")
    else:
        say(f"{out} is complete already")
