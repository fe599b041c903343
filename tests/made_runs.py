"""Folders of finished runs, written without any training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlrec import config as configuration
from mlrec.config import ItemConfig, RecommenderConfig
from mlrec.data.format import npy_bytes
from mlrec.evaluation.metrics import summarize, user_metrics
from mlrec.evaluation.results import TargetRanks, read_results, write_results
from mlrec.report.published import COUNTS
from mlrec.report.runs import Run, read_run
from mlrec.runs.recommendations import Example, Recommended, write_recommended

POPULARITY = {
    "users": 1000,
    "hr@10": 0.1,
    "hr@20": 0.15,
    "ndcg@10": 0.05,
    "ndcg@20": 0.06,
    "mrr": 0.04,
}
GROUPS = ("all", "cold", "1-5", "6-20", "21-100", ">100")


def scaled(factor: float) -> dict[str, Any]:
    """Return the metrics of popularity times `factor`, for the same number of users."""
    metrics = {name: value * factor for name, value in POPULARITY.items()}
    metrics["users"] = POPULARITY["users"]
    return metrics


def make_run(
    path: Path,
    factor: float = 3.0,
    encoder: str = "video/tiny",
    fingerprint: str = "f" * 64,
    split: str = "test",
    dataset_split: str = "leave_one_out",
) -> Path:
    """Write a finished run whose metrics are `factor` times those of popularity.

    On the validation split, all metrics are half as high.
    """
    scale = 0.5 if split == "validation" else 1.0
    path.mkdir(parents=True)
    item = configuration.ItemConfig(encoders=(encoder,))
    data = configuration.DataConfig(url="s3://bucket/microlens")
    configuration.save(
        configuration.Config(name=path.name, item=item, data=data), path / "config.yaml"
    )
    lines: list[dict[str, Any]] = []
    for step in range(10, 101, 10):
        loss = 5.0 - factor * step / 100
        lines.append({"step": step, "time": 1.0 * step, "train/loss": loss})
    for step in (50, 100):
        hit_rate = factor * step / 1000
        lines.append({"step": step, "time": 1.0 * step, "validation/hr@10": hit_rate})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    info = {
        "name": path.name,
        "commit": "0123abc",
        "started": "2026-01-02T03:04:05",
        "hours": 0.125,
        "world": 2,
        "hardware": "2 CPU cores",
        "versions": {"mlrec": "0.1.0", "torch": "2.13.0"},
        "dataset": {
            "name": "synthetic",
            # A page must never show this password.
            "url": "s3://user:hunter2@bucket/microlens",
            "fingerprint": fingerprint,
            "counts": {"users": 1000, "items": 300, "interactions": 7200},
            "split": dataset_split,
        },
        "parameters": {"trained": 123456, "total": 1234567},
    }
    (path / "run.json").write_text(json.dumps(info))
    results = {
        "split": split,
        "step": 100,
        "selected_by": "validation hr@10",
        "metrics": {group: scaled(scale * factor) for group in GROUPS},
        "baselines": {
            "popularity": {group: scaled(scale) for group in GROUPS},
            "chance": {"all": scaled(0.2)},
            "oracle": {"all": {"hr@10": 0.4, "ndcg@10": 0.2}},
        },
    }
    (path / "results.json").write_text(json.dumps(results))
    return path


def make_recommending(path: Path, items_of: dict[int, tuple[int, ...]]) -> Path:
    """Write a run that recommends `items_of[user]` to each user.

    Every user watched items 1 and 2, and watches item 3 next. The data set cannot be read.
    """
    make_run(path)
    data = configuration.DataConfig(url=str(path.parent / "gone"))
    configuration.save(configuration.Config(name=path.name, data=data), path / "config.yaml")
    examples = []
    for user, items in items_of.items():
        rank = 1 if 3 in items else 99
        examples.append(Example(user, (1, 2), 3, rank, items))
    counts = {name: {"cold": 1} for name in ("recommended", "targets", "catalogue")}
    titles = {item: f"title {item}" for item in range(9)}
    write_recommended(path, Recommended("test", len(items_of), counts, tuple(examples), titles))
    return path


def rank_users(path: Path, is_hit_B: np.ndarray, popularity_B: np.ndarray | None = None) -> Path:
    """Give a made run results by user: the target is first, or else 250th of 300 items.

    Args:
        is_hit_B: whether each user's target is first, bool.
        popularity_B: training interactions of the targets; without, as in earlier versions.
    """
    better_B = np.where(is_hit_B, 0, 249)
    ranks = TargetRanks(better_B, np.zeros_like(better_B), popularity_B)
    per_user = user_metrics(ranks.better_B, ranks.tied_B, 300)
    metrics = summarize(per_user, np.zeros_like(better_B) if popularity_B is None else popularity_B)
    results = read_results(path)
    assert results is not None
    write_results(path, replace(results, metrics=metrics, catalogue_size=300), ranks)
    return path


def place_run(
    path: Path,
    recommender: str,
    item: ItemConfig,
    counts: dict[str, int] = COUNTS,
    name: str = "MicroLens-100k",
) -> Run:
    """Write and read a finished run with HR@10 .3 over 1,000 users, and their ranks."""
    make_run(path, 3.0)
    configuration.save(
        configuration.Config(name=path.name, item=item, recommender=RecommenderConfig(recommender)),
        path / "config.yaml",
    )
    info = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(
        json.dumps({**info, "dataset": {**info["dataset"], "counts": counts, "name": name}})
    )
    results = json.loads((path / "results.json").read_text())
    better = np.where(np.arange(1000) < 300, 5, 250)
    means = {
        metric: values.mean() for metric, values in user_metrics(better, better * 0, 300).items()
    }
    metrics = {**results["metrics"], "all": {"users": 1000, **means}}
    (path / "results.json").write_text(
        json.dumps({**results, "catalogue_size": 300, "metrics": metrics})
    )
    (path / "ranks.npy").write_bytes(npy_bytes(np.stack([better, np.zeros_like(better)], axis=1)))
    return read_run(path)
