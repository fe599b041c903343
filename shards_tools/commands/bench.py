"""mlrec-shards bench."""

from __future__ import annotations

import argparse

from mlrec.config.arguments import Parser, whole_number
from mlrec.runtime.json_output import add_json
from shards_tools.commands.common import add_media, add_policy, add_raw, add_workers, title_weights

HELP = "Measure how fast a raw folder's videos are packed, next to decoding them and nothing else."
DESCRIPTION = """\
Prints videos per second and bytes per item. Packed files go to a temporary folder, which is
deleted."""
EXAMPLE = """\
mlrec-shards bench data/MicroLens-50k --items 52 --workers 2"""


def add_arguments(parser: Parser) -> None:
    """Add the raw folder, and how much of it is packed."""
    add_raw(parser)
    parser.add_argument(
        "--items",
        type=whole_number(),
        default=200,
        metavar="N",
        help="pack the first N videos (default: %(default)s)",
    )
    add_media(parser)
    add_policy(parser)
    add_json(parser)
    add_workers(parser)


def run(options: argparse.Namespace) -> None:
    """Pack and decode, and print the figures."""
    from mlrec.bench.result import show
    from shards_tools.bench.packing import bench_packing
    from shards_tools.pack.inputs import Inputs
    from shards_tools.pack.settings import Settings

    # everything else as in a default make, so that figures of machines compare
    settings = Settings(
        media=options.media, policy=options.policy, title_weights=title_weights(options)
    )
    inputs = Inputs(title_checkpoint=options.title_checkpoint)
    result = bench_packing(options.raw, settings, options.workers, options.items, inputs)
    show(result, options.json)
