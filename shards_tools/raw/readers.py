"""Layouts of interactions in a raw folder.

To add a layout:

1. Write a reader in a file of its own, as in pairs_csv.py (with times) or pairs_tsv.py (without): a
   function that takes the URL of a file and returns its Interactions, in which each user's items
   run from the oldest to the newest. Malformed input is a ValueError with the URL and the line.
2. Add a row to READERS: the name of such files as a shell pattern, and the reader.

Nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable

from shards_tools.raw.interactions import Interactions
from shards_tools.raw.pairs_csv import read_pairs_csv
from shards_tools.raw.pairs_tsv import read_pairs_tsv

Reader = Callable[[str], Interactions]
"""Takes the URL of a file."""

READERS: dict[str, Reader] = {
    "*pairs.csv": read_pairs_csv,
    "*pairs.tsv": read_pairs_tsv,
}
"""Reader by the pattern of a file's name. The first pattern that a folder matches is used.

The .csv stands first because it has times.
"""
