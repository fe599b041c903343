"""A run's last full ranking: results.json, and ranks.npy that its figures are computed from."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mlrec import storage
from mlrec.config.run_files import RANKS_FILE, RESULTS_FILE
from mlrec.evaluation.metrics import user_metrics
from mlrec.storage.npy import npy_bytes, read_npy
from mlrec.storage.typed_json import STRICT, parse_json, read_bounded

MAX_RESULTS_BYTES = 64 << 20
"""A million items that could not be read, with their reasons, fit."""
MAX_USERS = 1 << 31
MAX_ITEMS = 1 << 31

Summary = dict[str, dict[str, float]]
"""Per group of users ("all", "cold", "1-5", ...): the number of users and the mean of each metric."""


@dataclass(frozen=True)
class Results:
    """The content of results.json."""

    __pydantic_config__ = STRICT

    split: Literal["validation", "test"]
    step: Annotated[int, Field(ge=0)]
    """Of the checkpoint that was ranked."""
    selected_by: str
    """How this checkpoint was chosen."""
    metrics: Summary
    baselines: dict[str, Summary]
    bad_items: dict[int, str] = field(default_factory=dict)
    """Items that could not be read, with the reason."""
    catalogue_size: Annotated[int, Field(ge=0, le=MAX_ITEMS)] = 0
    """Items that were ranked; 0 in results of earlier versions, which cannot be compared user by user."""
    fingerprint: str = ""
    """Of the data set that was ranked; empty in results of earlier versions, which ranked the training's."""

    def __post_init__(self) -> None:
        if "all" not in self.metrics:
            raise ValueError("metrics has no group 'all'")
        if not 0 <= self.metrics["all"].get("users", 0) <= MAX_USERS:
            raise ValueError(f"metrics.all.users is {self.metrics['all']['users']}")


def read_results(run: Path) -> Results | None:
    """Return the run's results.json, or None if it has none.

    Raises:
        ValueError: the file is damaged.
    """
    path = run / RESULTS_FILE
    if not path.exists():
        return None
    return parse_json(
        read_bounded(path, MAX_RESULTS_BYTES, _remedy(run)), Results, str(path), _remedy(run)
    )


def read_ranks(run: Path, results: Results) -> np.ndarray:
    """Return ranks.npy, which belongs to `results`: int64 [users, 2], items better than and tied with each user's target.

    Raises:
        ValueError: the file is missing or damaged, or does not belong to these results.
    """
    path = run / RANKS_FILE
    users = int(results.metrics["all"].get("users", 0))
    # 16 bytes a user and the header: what is longer belongs to other results, and is not read
    raw = read_bounded(path, 16 * users + 4096, _remedy(run))
    try:
        ranks_B2 = read_npy(raw, np.int64, ndim=2)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. {_remedy(run)}.") from error
    if ranks_B2.shape != (users, 2):
        raise ValueError(
            f"{path} has shape {list(ranks_B2.shape)}, but {RESULTS_FILE} has {users} users. {_remedy(run)}."
        )
    if len(ranks_B2) and (ranks_B2.min() < 0 or ranks_B2.max() >= results.catalogue_size):
        raise ValueError(
            f"{path} has ranks outside the catalogue of {results.catalogue_size} items. {_remedy(run)}."
        )
    if len(ranks_B2) and ranks_B2.sum(axis=1).max() >= results.catalogue_size:
        raise ValueError(
            f"{path} has more better and tied items than the catalogue's {results.catalogue_size}. {_remedy(run)}."
        )
    _check_agreement(path, ranks_B2, results)
    return ranks_B2


def _check_agreement(path: Path, ranks_B2: np.ndarray, results: Results) -> None:
    stated = results.metrics["all"]
    for name, values_B in user_metrics(
        ranks_B2[:, 0], ranks_B2[:, 1], results.catalogue_size
    ).items():
        if (
            len(values_B)
            and name in stated
            and not math.isclose(stated[name], values_B.mean(), rel_tol=1e-6, abs_tol=1e-9)
        ):
            raise ValueError(
                f"{path} gives {name} {values_B.mean():.6f}, but {RESULTS_FILE} has {stated[name]:.6f}. {_remedy(path.parent)}."
            )


def write_results(run: Path, results: Results, ranks_B2: np.ndarray) -> None:
    """Write ranks.npy, then results.json, each complete or not at all."""
    storage.write_bytes(str(run / RANKS_FILE), npy_bytes(ranks_B2))
    content = json.dumps(asdict(results), indent=1, allow_nan=False) + "\n"
    storage.write_bytes(str(run / RESULTS_FILE), content.encode())


def _remedy(run: Path) -> str:
    return f"mlrec evaluate {run} writes {RESULTS_FILE} and {RANKS_FILE} again"
