"""Reference test metrics: those of the oracle, of training popularity and of chance.

All items that occur are ranked, without the user's kept history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mlrec.data.format import SplitInfo
from mlrec.evaluation.metrics import summarize, user_metrics
from mlrec.runtime.progress import track
from shards_tools.raw.split import Sequences, cuts_of, training_popularity
from shards_tools.synthetic.model import World, user_chunks

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes users [B] and their items before the target [B], and returns scores [B, N]."""


def reference_metrics(
    world: World, sequences: Sequences, split: SplitInfo
) -> dict[str, dict[str, dict[str, float]]]:
    """Return metrics by ranking, by popularity group of the target, and by name."""
    num_items = len(world.looks)
    popularity_N = training_popularity(sequences, split, num_items)[1:]
    # items that nobody watched are not in the packed catalogue
    occurs_N = np.isin(np.arange(num_items), sequences.items - 1)
    scores: dict[str, Score] = {
        "oracle": world.logits,
        "popularity": lambda users_B, previous_B: np.broadcast_to(
            popularity_N, (len(users_B), num_items)
        ),
        "chance": lambda users_B, previous_B: np.zeros((len(users_B), num_items)),
    }
    cuts = cuts_of(sequences, split)
    users_V = np.flatnonzero(cuts.has_target("test"))
    # numbered from 0
    target_V = sequences.items[cuts.targets("test")[users_V]] - 1
    results = {}
    for name, score in scores.items():
        above = []
        tied = []
        for places_B in track(user_chunks(len(users_V)), f"ranking by {name}"):
            counts = _count_rivals(score, users_V[places_B], sequences, split, occurs_N)
            above.append(counts.above_B)
            tied.append(counts.tied_B)
        metrics = user_metrics(np.concatenate(above), np.concatenate(tied), int(occurs_N.sum()))
        results[name] = summarize(metrics, popularity_N[target_V])
    return results


class _Rivals(NamedTuple):
    """Numbers of items ranked next to each user's target."""

    above_B: np.ndarray
    """int64: items with a higher score."""
    tied_B: np.ndarray
    """int64: other items with the same score."""


def _count_rivals(
    score: Score,
    users_B: np.ndarray,
    sequences: Sequences,
    split: SplitInfo,
    occurs_N: np.ndarray,
) -> _Rivals:
    """Count the items that rank above each user's test target, or level with it."""
    places_B = cuts_of(sequences, split).targets("test")[users_B]
    starts_B = np.maximum(sequences.offsets[users_B], places_B - split.seen_length("test"))
    target_B = sequences.items[places_B] - 1
    previous_B = sequences.items[places_B - 1] - 1
    is_ranked_BN = np.tile(occurs_N, (len(users_B), 1))
    for row, (start, place) in enumerate(zip(starts_B, places_B, strict=True)):
        # the history is what comes before the target
        is_ranked_BN[row, sequences.items[start:place] - 1] = False
    scores_BN = score(users_B, previous_B)
    target_score_B1 = scores_BN[np.arange(len(users_B)), target_B][:, None]
    above_B = ((scores_BN > target_score_B1) & is_ranked_BN).sum(axis=1)
    level_B = ((scores_BN == target_score_B1) & is_ranked_BN).sum(axis=1)
    # the target is level with itself
    return _Rivals(above_B, level_B - 1)
