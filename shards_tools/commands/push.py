"""mlrec-shards push."""

from __future__ import annotations

import argparse

from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import task
from mlrec.runtime.terminal import say
from mlrec.runtime.units import megabytes
from shards_tools.commands.common import document_of

HELP = "Copy a data set, with its checksums verified. The same command continues a stopped push."
DESCRIPTION = """\
Every file is compared with its checksum after the copy. DST becomes readable as a data set only
when it is complete."""
EXAMPLE = """\
mlrec-shards push data/microlens-50k s3://bucket/microlens-50k"""


def add_arguments(parser: Parser) -> None:
    """Add the two places."""
    parser.add_argument("source", metavar="SRC", help="folder or fsspec URL of a data set")
    parser.add_argument("target", metavar="DST", help="folder or fsspec URL to copy it to")
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Copy every file that DST lacks."""
    from mlrec.data.format import read_dataset_info
    from shards_tools.push import push

    info = read_dataset_info(options.source)
    num_bytes = info.num_bytes
    # files that are there already count too, so that a resumed push begins further along
    with task("copying", num_bytes, megabytes) as progress:
        for number, file in enumerate(push(options.source, options.target), start=1):
            progress.advance(file.size, f"{number} of {len(info.files)} files, {file.path}")
    if options.json:
        print_json(document_of(options.target, info))
    else:
        say(f"{options.target}: {counted(info.num_files, 'file')}, {megabytes(num_bytes)}")
