"""Training from an S3 server equals training from disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import VIDEO, tiny_overrides

from shards_tools.push import push


def losses(dataset: str, folder: Path) -> list[float]:
    """Losses of a short video run that reads `dataset`."""
    overrides = [*tiny_overrides(Path("unused"), folder), *VIDEO, f"data.url={dataset}", "data.num_workers=1"]
    command = [sys.executable, "-m", "mlrec.cli", "train", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_a_run_from_s3_has_the_losses_of_one_from_disk(s3: str, dataset_dir: Path, tmp_path: Path) -> None:
    url = f"{s3}/train"
    list(push(str(dataset_dir), url))
    from_disk = losses(str(dataset_dir), tmp_path / "disk")
    assert losses(url, tmp_path / "s3") == pytest.approx(from_disk, abs=1e-5)
    cached = list((tmp_path / "s3" / "cache" / "items").glob("*.tar"))
    assert cached, "shards were downloaded for the steps that follow"
