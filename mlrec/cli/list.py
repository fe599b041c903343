"""mlrec list."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import say

HELP = "List the keys of a configuration, or the rows of a table, with their meaning."
DESCRIPTION = """\
Keys are listed with type and default, and rows with the columns of their table. The names of rows
are values of keys: a row of encoders is a value for item.encoders."""
EXAMPLE = """\
mlrec list encoders
mlrec list keys | grep train."""

# the names of mlrec.models.registry.TABLES, which imports torch; a test compares them
TABLE_NAMES = ("encoders", "recommenders", "losses", "fusions", "tunings", "gpus")
# lines up the short tables with each other
MIN_NAME_COLUMNS = 24

Rows = dict[str, dict[str, Any]]


def add_arguments(parser: Parser) -> None:
    """Add the table."""
    parser.add_argument(
        "table", choices=("keys", *TABLE_NAMES), help="keys of a configuration, or rows of a table"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Print one line per row."""
    rows = rows_of(options.table)
    if options.json:
        print_json(rows)
        return
    width = max(MIN_NAME_COLUMNS, *map(len, rows))
    for name, row in rows.items():
        say("  ".join([f"{name:{width}}", *_cells(row)]))


def rows_of(table: str) -> Rows:
    """Return the keys of a configuration, or the rows of a table, by name."""
    from mlrec.config import keys

    all_keys = keys()
    if table == "keys":
        return {key: asdict(row) for key, row in all_keys.items()}

    from mlrec.config.key_docs import first_sentence
    from mlrec.models.recommenders.options import options_of
    from mlrec.models.registry import TABLES

    # rows of encoders, tunings and gpus are data; those of other tables are classes with docstrings
    rows: Rows = {}
    for name, row in TABLES[table].items():
        if table == "encoders":
            columns = ("modality", "frames", "size", "width", "checkpoint", "licence", "paper")
            rows[name] = {column: getattr(row, column) for column in columns}
            continue
        if table == "tunings":
            rows[name] = row._asdict()
            continue
        if table == "gpus":
            rows[name] = {"description": row.description, **asdict(row)}
            continue
        rows[name] = {"description": first_sentence(row) or "-"}
        if table == "recommenders":
            rows[name]["options"] = options_of(row)
        if table == "losses":
            rows[name]["options"] = {key: all_keys[key].default for key in row.keys}
    return rows


def _cells(row: dict[str, Any]) -> list[str]:
    """Return the printed columns of a row after its name."""
    cells = []
    if "type" in row:
        cells.append(f"{row['type']} = {json.dumps(row['default'])}")
    # encoders of text and audio have no frames
    if row.get("size"):
        cells.append(f"{row['frames']} frames of {row['size']} x {row['size']}")
    for column in ("checkpoint", "licence", "paper", "description", "cost", "source"):
        if row.get(column):
            cells.append(str(row[column]))
    if row.get("options"):
        from mlrec.models.recommenders.options import in_words

        cells.append(in_words(row["options"]))
    return cells
