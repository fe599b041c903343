"""mlrec recommend."""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mlrec.cli.commands import add_overrides
from mlrec.config.arguments import Parser, whole_number
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.printable import printable
from mlrec.runtime.terminal import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mlrec.serving.recommendation import Recommendation

HELP = "Recommend items to a user or after a history, with titles, by a run or an export."
DESCRIPTION = """\
The user or the items are named by their ids in the raw data. Items of the history are not
recommended again."""
EXAMPLE = """\
mlrec recommend runs/quickstart_video --user 7 -k 5
mlrec recommend exports/quickstart --history 12,48,3"""

# items recommended at once; a larger number is a typing error
MAX_COUNT = 1_000_000


def add_arguments(parser: Parser) -> None:
    """Add the run or export, the user or history, and the number of items."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run, whose catalogue is encoded, or what mlrec export --index wrote",
    )
    add_overrides(parser)
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument(
        "--user",
        metavar="ID",
        help="a user, by the id in the raw data (default: none; give --user or --history)",
    )
    whom.add_argument(
        "--history",
        metavar="ID,ID,...",
        help="raw ids of items, oldest first; put an id with a comma in double quotes "
        "(default: none)",
    )
    parser.add_argument(
        "-k",
        type=whole_number(1, MAX_COUNT),
        default=10,
        metavar="N",
        help="number of items to recommend (default: %(default)s)",
    )
    add_json(parser)


def raw_ids_of(history: str) -> list[str]:
    """Return the raw ids of `--history`, in which an id with a comma is quoted."""
    # ids of raw data may hold commas and spaces, as CSV cells do
    cells = next(csv.reader([history], skipinitialspace=True), [])
    return [cell.strip() for cell in cells if cell.strip()]


def run(options: argparse.Namespace) -> None:
    """Recommend, and print the items with the best first.

    Raises:
        ValueError: the history is empty.
    """
    history = raw_ids_of(options.history or "")
    if options.user is None and not history:
        raise ValueError("--history is empty; give one raw item id or more, with commas between")
    recommended = _recommend(options, history)
    if options.json:
        print_json([asdict(entry) for entry in recommended])
    else:
        console().print(_table(recommended))


def _recommend(options: argparse.Namespace, history: list[str]) -> Sequence[Recommendation]:
    from mlrec.runtime.distributed import start_world, stop_world
    from mlrec.serving.recommend import is_export, recommend, recommend_from_index

    user = options.user
    count = options.k
    overrides = options.overrides
    # An export has the vectors of all items: no encoder runs and the data set may be elsewhere. A
    # run's catalogue is encoded first, on the GPU if there is one.
    if is_export(options.run):
        return recommend_from_index(options.run, user, history, count, overrides)
    world = start_world()
    recommended = recommend(Path(options.run), user, history, count, world, overrides)
    stop_world()
    return recommended


def _table(recommended: Sequence[Recommendation]) -> Table:
    from rich.table import Table

    table = Table("", "item", "title", "score", "training interactions")
    for place, entry in enumerate(recommended, start=1):
        # an export without its data set has no counts
        popularity = "–" if entry.popularity is None else f"{entry.popularity:,}"
        # both come from the data set, whose text may hold line breaks or control characters
        raw_id = printable(entry.raw_id)
        title = printable(entry.title)
        table.add_row(str(place), raw_id, title, f"{entry.score:.3f}", popularity)
    return table
