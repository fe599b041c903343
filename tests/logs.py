"""Logs of interactions that tests write, and what readers made of them."""

from __future__ import annotations

from pathlib import Path

from shards_tools.raw.pairs.interactions import Interactions


def runs(interactions: Interactions) -> dict[str, list[str]]:
    """Return the raw item ids of each user by the user's raw id."""
    sequences = interactions.sequences
    users = [str(user) for user in sequences.users.tolist()]
    if sequences.raw_users is not None:
        users = sequences.raw_users.to_pylist()
    runs_by_user = {}
    for row, user in enumerate(users):
        items = sequences.items[sequences.offsets[row] : sequences.offsets[row + 1]]
        runs_by_user[user] = [interactions.raw_ids[item] for item in items]
    return runs_by_user


def write_text(path: Path, text: str) -> str:
    """Write a text file, and return its URL."""
    path.write_text(text, encoding="utf-8")
    return str(path)
