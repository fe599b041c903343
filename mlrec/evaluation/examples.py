"""What the best checkpoint recommends to some of the evaluated users, kept in the run's folder for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlrec.data.sequences import Split
from mlrec.evaluation.metrics import GROUPS
from mlrec.runs.recommendations import Example, Recommended

if TYPE_CHECKING:  # who only reads the file needs no torch
    from mlrec.evaluation.ranking import Ranking

COUNT = 10
"""K: recommendations of a user."""
USERS = 1000
"""Whose recommendations are counted by popularity."""
SHOWN_USERS = 12
"""Whose recommendations are kept."""
SHOWN_HISTORY = 6
"""Newest items of a history that are kept."""


def spread(total: int, count: int) -> np.ndarray:
    """`count` of the numbers 0 ... total - 1, or all, evenly spread: int64."""
    count = min(total, count)
    return np.arange(count, dtype=np.int64) * total // max(1, count)


def recommend_some(ranking: Ranking, split: Split, user_chunk: int) -> Recommended:
    """Recommends to USERS users; not collective."""
    data = ranking.data
    users_M = spread(data.sequences.num_users, USERS)
    items_MK = np.concatenate(
        [
            ranking.top(users_M[i : i + user_chunk], split, COUNT)
            for i in range(0, len(users_M), user_chunk)
        ]
    )
    shown = spread(len(users_M), SHOWN_USERS)
    users_B = users_M[shown]
    histories, targets = (
        data.sequences.history(users_B, split),
        data.sequences.target(users_B, split),
    )
    counts_B6 = ranking.count(users_B, split).cpu().numpy()
    examples = tuple(
        Example(
            user=data.sequences.raw_user(user),
            history=tuple(history[history > 0][-SHOWN_HISTORY:].tolist()),
            target=int(target),
            rank=int(better + tied // 2 + 1),
            items=tuple(items[items > 0].tolist()),
        )
        for user, history, target, (better, tied), items in zip(
            users_B, histories, targets, counts_B6[:, :2], items_MK[shown], strict=True
        )
    )
    mentioned = {
        item for entry in examples for item in (*entry.history, entry.target, *entry.items)
    }
    popularity_N1 = data.catalogue.popularity_N1
    of = {
        "recommended": popularity_N1[items_MK[items_MK > 0]],
        "targets": popularity_N1[data.sequences.target(users_M, split)],
        "catalogue": popularity_N1[data.catalogue.ok_N1],
    }
    return Recommended(
        split=split,
        users=len(users_M),
        popularity={name: _by_group(values) for name, values in of.items()},
        examples=examples,
        titles={item: data.catalogue.title(item) for item in sorted(mentioned)},
    )


def _by_group(popularity: np.ndarray) -> dict[str, int]:
    return {
        name: int(((popularity >= low) & (popularity <= high)).sum()) for name, low, high in GROUPS
    }
