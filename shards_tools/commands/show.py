"""mlrec-shards show."""

from __future__ import annotations

import argparse

from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import console, say

HELP = "Show what a data set holds."
DESCRIPTION = """\
Prints counts, sizes, the settings of the packing, and the splits. --html writes a page that also
has items with their frames."""
EXAMPLE = """\
mlrec-shards show runs/quickstart/data --html quickstart.html"""


def add_arguments(parser: Parser) -> None:
    """Add the data set and --html."""
    parser.add_argument("url", metavar="URL", help="folder or fsspec URL of a data set")
    add_json(parser)
    parser.add_argument(
        "--html",
        metavar="FILE.html",
        help="also write a page with items and their frames, distributions, and failures "
        "(default: none)",
    )


def run(options: argparse.Namespace) -> None:
    """Print a table or a JSON document, and write the page if asked for."""
    from shards_tools.show.facts import as_table, describe

    facts = describe(options.url)
    # the page is complete before anything is printed, to a reader such as head that may leave
    if options.html:
        from shards_tools.show.page import write_page

        write_page(options.url, options.html)
        # on standard error: with --json standard output has one document alone
        say(f"page: {options.html}", error=True)
    if options.json:
        print_json(facts)
    else:
        console().print(as_table(facts))
