"""mlrec export."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlrec.cli.commands import add_overrides
from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import say

HELP = "Export a run's best weights as plain safetensors, with an index of the items if asked for."
DESCRIPTION = """\
Adapters are merged into the weights. --index adds what serving needs: the vectors of all items,
their raw ids, and an HNSW index (pip install 'mlrec[index]')."""
EXAMPLE = """\
mlrec export runs/quickstart_video exports/quickstart --index"""


def add_arguments(parser: Parser) -> None:
    """Add the run, the place of the export, and --index."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("out", metavar="OUT", help="folder or URL to export to")
    add_overrides(parser)
    parser.add_argument(
        "--index",
        action="store_true",
        help="also export the items' vectors, raw ids and index, for mlrec recommend OUT "
        "(default: off)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Export, and print the URL of the weights.

    Raises:
        ValueError: OUT is missing.
    """
    from mlrec.config import check_is_place
    from mlrec.runtime.distributed import start_world, stop_world
    from mlrec.serving.export import export

    # mlrec export RUN data.url=URL: the setting would be taken for the place
    check_is_place(options.out, "OUT")
    # weights are copied by one process; encoding the items for an index uses all ranks and GPUs
    world = start_world() if options.index else None
    weights, recall = export(options.run, options.out, world, options.overrides)
    if world is not None:
        stop_world()
    if options.json:
        print_json({"weights": weights, "recall@10": recall})
        return
    # the first line is the URL alone, for scripts
    say(weights)
    if recall is not None:
        say(
            f"{options.out}: item vectors and their index, "
            f"recall@10 {recall:.4f} against exact search"
        )
