"""What the best checkpoint recommends to some of the evaluated users, kept in the run's folder for people to look at."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from mlrec import storage
from mlrec.data.sequences import Split
from mlrec.metrics import GROUPS
from mlrec.run_files import RECOMMENDED_FILE
from mlrec.typed_json import STRICT, parse_json, read_bounded

if TYPE_CHECKING:  # who only reads the file needs no torch
    from mlrec.ranking import Ranking

COUNT = 10
"""K: recommendations of a user."""
USERS = 1000
"""Whose recommendations are counted by popularity."""
SHOWN_USERS = 12
"""Whose recommendations are kept."""
SHOWN_HISTORY = 6
"""Newest items of a history that are kept."""
MAX_RECOMMENDED_BYTES = 16 << 20
MAX_EXAMPLES = 1000

Item = Annotated[int, Field(ge=1, le=(1 << 31) - 1)]
Items = Annotated[tuple[Item, ...], Field(max_length=1000)]


@dataclass(frozen=True)
class Example:
    """One user's recommendations."""

    __pydantic_config__ = STRICT

    user: int | str
    """Id in the raw data; a number in files of earlier versions."""
    history: Items
    """The newest items that the model saw, oldest first."""
    target: Item
    rank: Annotated[int, Field(ge=1)]
    """The target's place, from 1; of several with its score the middle one."""
    items: Items
    """The recommended ones, best first."""


@dataclass(frozen=True)
class Recommended:
    """The content of recommended.json; items are ids of the catalogue."""

    __pydantic_config__ = STRICT

    split: Split
    users: Annotated[int, Field(ge=0)]
    """Whose recommendations `popularity` counts, spread evenly over all: the same ones for every run on a data set."""
    popularity: dict[str, dict[str, Annotated[int, Field(ge=0)]]]
    """Of "recommended", "targets" and "catalogue": how many items are in each popularity group."""
    examples: Annotated[tuple[Example, ...], Field(max_length=MAX_EXAMPLES)]
    titles: dict[int, str]
    """Of the examples' items."""

    def __post_init__(self) -> None:
        if missing := {"recommended", "targets", "catalogue"} - self.popularity.keys():
            raise ValueError(f"popularity has no {min(missing)!r}")
        if len({tuple(counts) for counts in self.popularity.values()}) > 1:
            raise ValueError("the groups of popularity differ")


def spread(total: int, count: int) -> np.ndarray:
    """`count` of the numbers 0 ... total - 1, or all, evenly spread: int64."""
    count = min(total, count)
    return np.arange(count, dtype=np.int64) * total // max(1, count)


def recommend_some(ranking: Ranking, split: Split, user_chunk: int) -> Recommended:
    """Recommends to USERS users; not collective."""
    data = ranking.data
    users_M = spread(data.sequences.num_users, USERS)
    items_MK = np.concatenate(
        [ranking.top(users_M[i : i + user_chunk], split, COUNT) for i in range(0, len(users_M), user_chunk)]
    )
    shown = spread(len(users_M), SHOWN_USERS)
    users_B = users_M[shown]
    histories, targets = data.sequences.history(users_B, split), data.sequences.target(users_B, split)
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
    mentioned = {item for entry in examples for item in (*entry.history, entry.target, *entry.items)}
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
    return {name: int(((popularity >= low) & (popularity <= high)).sum()) for name, low, high in GROUPS}


def write_recommended(run_path: Path, recommended: Recommended) -> None:
    """Writes the run's recommended.json, complete or not at all."""
    content = json.dumps(asdict(recommended), ensure_ascii=False) + "\n"
    storage.write_bytes(str(run_path / RECOMMENDED_FILE), content.encode())


def read_recommended(run_path: Path) -> Recommended | None:
    """Return the run's recommended.json, or None if it has none.

    Raises:
        ValueError: the file is damaged.
    """
    path = run_path / RECOMMENDED_FILE
    if not path.exists():
        return None
    remedy = f"mlrec evaluate {run_path} writes it again"
    return parse_json(read_bounded(path, MAX_RECOMMENDED_BYTES, remedy), Recommended, str(path), remedy)
