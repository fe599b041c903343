"""recommended.json: recommendations of the best checkpoint to some users, for people to look at."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mlrec import storage
from mlrec.config.run_files import RECOMMENDED_FILE
from mlrec.data.format import Split
from mlrec.storage.typed_json import STRICT, parse_json, read_bounded

MAX_RECOMMENDED_BYTES = 16 << 20


MAX_EXAMPLES = 1000

# Names under which trackers log; the dashboard shows the same names.
EXAMPLES = "recommended/examples"
"""Recommendations to each example user."""
SHARE = "recommended/{group}"
"""Share of the recommendations in a popularity group."""


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
    """Number of users whose recommendations `popularity` counts, spread evenly over all users."""
    popularity: dict[str, dict[str, Annotated[int, Field(ge=0)]]]
    """Of "recommended", "targets" and "catalogue": how many items are in each popularity group."""
    examples: Annotated[tuple[Example, ...], Field(max_length=MAX_EXAMPLES)]
    titles: dict[int, str]
    """Of the examples' items."""

    def __post_init__(self) -> None:
        if missing := {"recommended", "targets", "catalogue"} - self.popularity.keys():
            raise ValueError(f"popularity has no {min(missing)!r}")
        # Readers put the three side by side, so they must have the same groups in the same order.
        if len({tuple(counts) for counts in self.popularity.values()}) > 1:
            raise ValueError("the groups of popularity differ")


def popularity_shares(recommended: Recommended) -> dict[str, float]:
    """Return the share of the recommendations in each popularity group."""
    return shares_of(recommended.popularity["recommended"])


def shares_of(counts: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each group in the sum of the counts."""
    total = max(1, sum(counts.values()))
    return {group: count / total for group, count in counts.items()}


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
    remedy = f"mlrec evaluate {shlex.quote(str(run_path))} writes it again"
    return parse_json(
        read_bounded(path, MAX_RECOMMENDED_BYTES, remedy), Recommended, str(path), remedy
    )
