"""One recommended item, with what the catalogue says of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlrec.data.format import Catalogue


@dataclass(frozen=True)
class Recommendation:
    """One recommended item."""

    item: int
    """Number of the item in its data set, from 1."""
    raw_id: str
    title: str
    """Empty if an export is used without its data set."""
    score: float
    popularity: int | None
    """Training interactions; None if an export is used without its data set."""


def described(
    catalogue: Catalogue, items_K: np.ndarray, scores_K: np.ndarray
) -> list[Recommendation]:
    """Return items with their scores, titles and popularity."""
    raw_ids = raw_ids_of(catalogue, items_K)
    recommendations = []
    for item, raw_id, score in zip(items_K.tolist(), raw_ids, scores_K.tolist(), strict=True):
        popularity = int(catalogue.popularity_N1[item])
        title = catalogue.title(item)
        recommendations.append(Recommendation(item, raw_id, title, score, popularity))
    return recommendations


def raw_ids_of(catalogue: Catalogue, items: np.ndarray) -> list[str]:
    """Return the raw ids of items."""
    raw_ids = catalogue.table["raw_id"].take(pa.array(items - 1))
    return [str(raw_id) for raw_id in raw_ids.to_pylist()]
