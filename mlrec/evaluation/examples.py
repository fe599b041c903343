"""What a model recommends to some of the evaluated users, for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlrec.data.format import Split
from mlrec.evaluation.metrics import GROUPS
from mlrec.runs.recommendations import Example, Recommended

# Readers of recommended.json import this module and need no torch.
if TYPE_CHECKING:
    from mlrec.evaluation.ranking import Ranking

RECOMMENDED_ITEMS = 10
"""K, the recommendations per user."""
COUNTED_USERS = 1000
"""Users whose recommendations are counted by popularity."""
SHOWN_USERS = 12
"""Users whose recommendations are stored as examples."""
SHOWN_HISTORY_ITEMS = 6
"""Newest items of an example's history that are stored."""


def spread(total: int, count: int) -> np.ndarray:
    """Return `count` of the numbers 0 ... total - 1, evenly spread, or all of them: int64."""
    count = min(total, count)
    return np.arange(count, dtype=np.int64) * total // max(1, count)


def recommend_some(
    ranking: Ranking, users_V: np.ndarray, split: Split, user_chunk: int
) -> Recommended:
    """Recommend items to COUNTED_USERS of the evaluated users; not collective."""
    data = ranking.data
    users_M = users_V[spread(len(users_V), COUNTED_USERS)]
    chunks = []
    for start in range(0, len(users_M), user_chunk):
        users_B = users_M[start : start + user_chunk]
        chunks.append(ranking.top(users_B, split, RECOMMENDED_ITEMS))
    items_MK = np.concatenate(chunks)
    shown = spread(len(users_M), SHOWN_USERS)
    examples = _examples(ranking, split, users_M[shown], items_MK[shown])
    popularity_N1 = data.catalogue.popularity_N1
    # The recommendations' popularity, and two references to judge it by.
    popularity = {
        "recommended": _by_group(popularity_N1[items_MK[items_MK > 0]]),
        "targets": _by_group(popularity_N1[data.sequences.target(users_M, split)]),
        "catalogue": _by_group(popularity_N1[data.catalogue.ok_N1]),
    }
    return Recommended(
        split=split,
        users=len(users_M),
        popularity=popularity,
        examples=examples,
        titles={item: data.catalogue.title(item) for item in _mentioned(examples)},
    )


def _examples(
    ranking: Ranking, split: Split, users_B: np.ndarray, items_BK: np.ndarray
) -> tuple[Example, ...]:
    sequences = ranking.data.sequences
    history_BL = sequences.history(users_B, split)
    target_B = sequences.target(users_B, split)
    counts = ranking.count(users_B, split).by_model
    # Of several items with the target's score, the target takes the middle place.
    rank_B = (counts.better_B + counts.tied_B // 2 + 1).cpu().numpy()
    examples = []
    for row, user in enumerate(users_B):
        history = history_BL[row]
        items = items_BK[row]
        example = Example(
            user=sequences.raw_user(user),
            history=tuple(history[history > 0][-SHOWN_HISTORY_ITEMS:].tolist()),
            target=int(target_B[row]),
            rank=int(rank_B[row]),
            items=tuple(items[items > 0].tolist()),
        )
        examples.append(example)
    return tuple(examples)


def _mentioned(examples: tuple[Example, ...]) -> list[int]:
    """Return all items of the examples, ascending."""
    mentioned: set[int] = set()
    for example in examples:
        mentioned.update(example.history, [example.target], example.items)
    return sorted(mentioned)


def _by_group(popularity: np.ndarray) -> dict[str, int]:
    """Return the number of items in each popularity group."""
    return {
        name: int(((popularity >= low) & (popularity <= high)).sum()) for name, low, high in GROUPS
    }
