"""Tables and pictures that W&B shows of a finished run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlrec.config import Config
from mlrec.data.pictures import Pictures
from mlrec.runs import checkpoint
from mlrec.runs.example_pictures import numbered_titles, open_example_pictures, picture_row
from mlrec.runs.failures import Failure
from mlrec.runs.recommendations import SHARE, Example, Recommended, popularity_shares

MAX_FAILURES_SHOWN = 100

# Names under which W&B logs; the dashboard shows the same names.
HISTOGRAM = "recommended/popularity"
FAILURES = "data/failures"
PARTS = "model/parts"

_EXAMPLE_COLUMNS = (
    "user",
    "watched",
    "watched next",
    "rank",
    "is hit",
    "recommended",
    "titles watched",
    "titles recommended",
)


def popularity_of_recommendations(recommended: Recommended) -> dict[str, Any]:
    """Return the share of the recommendations in each popularity group, and their histogram."""
    import wandb

    shares = popularity_shares(recommended)
    group_column = "training interactions"
    share_column = "share of the recommendations"
    rows = [list(row) for row in shares.items()]
    table = wandb.Table(columns=[group_column, share_column], data=rows)
    title = f"Popularity of what {recommended.users} users are recommended"
    logged: dict[str, Any] = {
        HISTOGRAM: wandb.plot.bar(table, group_column, share_column, title=title)
    }
    for group, share in shares.items():
        logged[SHARE.format(group=group)] = share
    return logged


def examples_table(recommended: Recommended, config: Config) -> Any:
    """Return recommendations to some users, with pictures if the data set can be read."""
    import wandb

    pictures = open_example_pictures(config)
    table = wandb.Table(columns=list(_EXAMPLE_COLUMNS))
    for example in recommended.examples:
        table.add_data(*_example_row(example, recommended, pictures))
    return table


def _example_row(
    example: Example, recommended: Recommended, pictures: Pictures | None
) -> tuple[Any, ...]:
    """Return the cells of _EXAMPLE_COLUMNS for one user."""
    return (
        example.user,
        _strip(pictures, example.history),
        _strip(pictures, (example.target,)),
        example.rank,
        example.target in example.items,
        _strip(pictures, example.items, marked=example.target),
        numbered_titles(recommended, example.history),
        numbered_titles(recommended, example.items),
    )


def _strip(pictures: Pictures | None, items: tuple[int, ...], marked: int = 0) -> Any:
    """Return the pictures of items side by side, with a frame around one; None without pictures."""
    import wandb

    image = picture_row(pictures, items, marked)
    # W&B's default is PNG, which is several times larger for photographs.
    return wandb.Image(image, file_type="jpg") if image else None


def failures_table(ledger: list[Failure]) -> dict[str, Any]:
    """Return the first items that could not be read; empty if all could."""
    import wandb

    shown = ledger[:MAX_FAILURES_SHOWN]
    if not shown:
        return {}
    rows = [[failure.item, failure.reason, failure.step] for failure in shown]
    return {FAILURES: wandb.Table(columns=["item", "reason", "step"], data=rows)}


@dataclass
class _Part:
    """The parameters of one module."""

    shapes: list[str] = field(default_factory=list)
    num_parameters: int = 0
    is_trained: bool = False


def parts_table(path: Path) -> Any:
    """Return the modules of a checkpoint: name, shapes, parameters, and whether trained."""
    import wandb

    parts: dict[str, _Part] = {}
    for name, shape, is_trained in checkpoint.read_shapes(path):
        # "tower.heads.0.weight" and "tower.heads.0.bias" are of one module
        module, _, _ = name.rpartition(".")
        part = parts.setdefault(module, _Part())
        # a scalar has no lengths to show
        if shape:
            part.shapes.append(" x ".join(map(str, shape)))
        part.num_parameters += math.prod(shape)
        part.is_trained = part.is_trained or is_trained
    rows = []
    for name, part in parts.items():
        rows.append([name, ", ".join(part.shapes), part.num_parameters, part.is_trained])
    return wandb.Table(columns=["part", "shapes", "parameters", "trained"], data=rows)
