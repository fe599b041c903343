"""The configurations of launch/quickstart.sh reach their quality on a smaller data set."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from launching import LAUNCHERS, run
from rich.console import Console

from shards_tools.make import make
from shards_tools.pack.settings import Settings
from shards_tools.synthetic.make import make_synthetic


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack a synthetic data set of 1,500 users and 120 items."""
    folder = tmp_path_factory.mktemp("small")
    make_synthetic(folder / "raw", 1500, 120, seed=1, workers=2)
    make(
        folder / "raw",
        str(folder / "data"),
        Settings(size=32),
        2,
        None,
        Console(file=io.StringIO()),
    )
    return folder


def train(name: str, folder: Path) -> dict[str, Any]:
    """Train a quickstart configuration on the small data set, and return its results.json.

    One rank is enough: other tests show that launchers and numbers of ranks give the same losses.
    """
    overrides = [
        f"data.url={folder}/data",
        f"data.cache_dir={folder}/cache",
        f"run_dir={folder}/{name}",
        "train.duration=12 epochs",
        "train.global_batch=128",
        "tracking.wandb=disabled",
    ]
    run([*LAUNCHERS["plain"], f"configs/experiment/{name}.yaml", *overrides])
    return dict(json.loads((folder / name / "results.json").read_text()))


def test_quickstart_video_beats_popularity_and_ids(small_data: Path) -> None:
    video = train("quickstart_video", small_data)
    ids = train("quickstart_id", small_data)
    hit_rate = video["metrics"]["all"]["hr@10"]
    assert hit_rate > 2 * video["baselines"]["popularity"]["all"]["hr@10"]
    assert hit_rate > 0.5 * video["baselines"]["oracle"]["all"]["hr@10"]
    # an embedding of ids knows nothing of items without training interactions
    assert video["metrics"]["cold"]["hr@10"] > 2 * ids["metrics"]["cold"]["hr@10"] + 0.1
