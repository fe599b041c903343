"""Loss curves that only a change of the training arithmetic may alter.

Write them again after such a change with: MLREC_WRITE_GOLDEN=1 pytest tests/golden
"""

import os
from pathlib import Path

import pytest
from ranks import run_ranks, train_runs
from tiny import VIDEO, tiny_overrides

GOLDEN = Path(__file__).parent
# Processors and their libraries round differently, and Adam's first steps amplify that.
TOLERANCE = 1e-4
RUNS = {
    "id": ["recommender.options={dropout: 0.1}"],
    "video": VIDEO,
    "video_local_multiplicity": [*VIDEO, "loss.negatives=local", "loss.multiplicity=true"],
}


def test_train_runs_tiny_runs_repeat_the_golden_losses(dataset_dir: Path, tmp_path: Path) -> None:
    common = [
        *tiny_overrides(dataset_dir, tmp_path),
        "optim.schedule=cosine",
        "optim.warmup=4 steps",
    ]
    runs = {name: common + changes for name, changes in RUNS.items()}
    # Noise replaces the videos, because codecs decode them differently.
    results = run_ranks(train_runs, 1, tmp_path, runs, 0, 8, "", True)[0]
    for name in RUNS:
        losses = results[name]["losses"]
        file = GOLDEN / f"{name}.txt"
        if os.environ.get("MLREC_WRITE_GOLDEN"):
            file.write_text("".join(f"{loss:.5f}\n" for loss in losses))
        expected = [float(line) for line in file.read_text().split()]
        assert losses == pytest.approx(expected, abs=TOLERANCE), name
