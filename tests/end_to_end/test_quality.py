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
    """Train a quickstart configuration on two ranks and return its results.json."""
    overrides = [
        f"data.url={folder}/data",
        f"data.cache_dir={folder}/cache",
        f"run_dir={folder}/{name}",
        "train.duration=16 epochs",
        "train.global_batch=128",
        "tracking.wandb=disabled",
    ]
    run([*LAUNCHERS["deepspeed"], f"configs/experiment/{name}.yaml", *overrides])
    return dict(json.loads((folder / name / "results.json").read_text()))


def test_quickstart_video_beats_popularity_and_ids(small_data: Path) -> None:
    video, ids = train("quickstart_video", small_data), train("quickstart_id", small_data)
    reached, popularity, oracle = (
        results["all"]["hr@10"]
        for results in (
            video["metrics"],
            video["baselines"]["popularity"],
            video["baselines"]["oracle"],
        )
    )
    assert reached > 2 * popularity
    assert reached > 0.5 * oracle
    assert video["metrics"]["cold"]["hr@10"] > 2 * ids["metrics"]["cold"]["hr@10"] + 0.1
