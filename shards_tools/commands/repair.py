"""mlrec-shards repair."""

from __future__ import annotations

import argparse

from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.printable import counted
from mlrec.runtime.terminal import console, say
from shards_tools.commands.common import (
    add_features,
    add_raw,
    add_title_checkpoint,
    add_titles,
    add_workers,
    inputs_of,
)

HELP = "Pack the damaged files of a data set again from its raw folder."
DESCRIPTION = """\
Files whose checksums do not match are replaced. RAW must be the folder that the data set was packed
from. Files given to make by --titles, --title-checkpoint or --features are given again."""
EXAMPLE = """\
mlrec-shards repair data/MicroLens-50k s3://bucket/microlens-50k"""


def add_arguments(parser: Parser) -> None:
    """Add the raw folder and the data set."""
    add_raw(parser)
    parser.add_argument("url", metavar="URL", help="folder or fsspec URL of the data set")
    add_titles(parser)
    add_title_checkpoint(parser)
    add_features(parser)
    add_workers(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Replace the damaged files, and print what was wrong with each."""
    from shards_tools.repair.dataset import repair

    url: str = options.url
    faults = repair(
        options.raw,
        url,
        options.workers,
        console(error=True),
        inputs_of(options),
    )
    if options.json:
        print_json({"url": url, "repaired": faults})
        return
    # each fault begins with the path of its file
    for fault in faults.values():
        say(f"repaired {fault}")
    if faults:
        say(f"{url}: {counted(len(faults), 'file')} repaired")
    else:
        say(f"{url}: no file is damaged")
