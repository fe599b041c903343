"""What the integration tests start and look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny import VIDEO, tiny_overrides

STEPS_PER_EPOCH = 7
TOLERANCE = 1e-5


def settings(url: str | Path, folder: Path, *more: str) -> list[str]:
    """Return settings of an epoch over the videos of a tiny data set.

    The run's folder is `folder`/run, its cache `folder`/cache.
    """
    return [
        *tiny_overrides(Path("unused"), folder),
        *VIDEO,
        f"data.url={url}",
        "train.duration=1 epoch",
        *more,
    ]


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    """Return the lines of a run's file, or none if it does not exist."""
    return (
        [json.loads(line) for line in (run / name).read_text().splitlines()]
        if (run / name).exists()
        else []
    )


def metric(run: Path, name: str) -> list[float]:
    """Return the values of a metric that a run logged, by step."""
    return [line[name] for line in lines(run, "metrics.jsonl") if name in line]


def losses(run: Path) -> list[float]:
    """Return the losses that a run logged, by step."""
    return metric(run, "train/loss")


def lost_items(run: Path) -> set[int]:
    """Return the items in a run's ledger of failures."""
    return {entry["item"] for entry in lines(run, "failures.jsonl")}


def results(run: Path) -> dict[str, Any]:
    """Return the results of the full ranking at the end of a run."""
    ranking: dict[str, Any] = json.loads((run / "results.json").read_text())
    return ranking
