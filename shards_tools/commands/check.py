"""mlrec-shards check."""

from __future__ import annotations

import argparse

from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.printable import counted
from mlrec.runtime.terminal import say
from mlrec.runtime.units import megabytes

HELP = "Compare every byte of a data set with its checksums, and decode every item."
DESCRIPTION = """\
Prints one line per fault, and ends with exit code 1 if there is any."""
EXAMPLE = """\
mlrec-shards check s3://bucket/microlens-50k"""


def add_arguments(parser: Parser) -> None:
    """Add the data set."""
    parser.add_argument("url", metavar="URL", help="folder or fsspec URL of a data set")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the faults, and return 1 if there are any."""
    from mlrec.data.format import read_dataset_info
    from shards_tools.check.dataset import check

    url: str = options.url
    faults = []
    for fault in check(url):
        faults.append(fault)
        # at once: a check of a large data set takes hours
        if not options.json:
            say(fault, flush=True)
    if options.json:
        print_json({"url": url, "faults": faults})
    # on standard error, so that standard output has faults alone
    if faults:
        say(
            f"{url}: {counted(len(faults), 'fault')}. mlrec-shards repair RAW {url} packs files "
            "again that do not have their checksums. For any other fault, pack the data set again",
            error=True,
        )
        return 1
    if not options.json:
        info = read_dataset_info(url)
        say(f"{url}: {counted(info.num_files, 'file')}, {megabytes(info.num_bytes)}, no fault")
    return 0
