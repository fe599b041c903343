"""Loss curves that a change which should not alter numbers leaves as they are.

To write them anew after a change that should: MLREC_WRITE_GOLDEN=1 pytest tests/golden
"""

import os
from pathlib import Path

import pytest
from ranks import run_ranks, train_runs
from tiny import VIDEO, tiny_overrides

GOLDEN = Path(__file__).parent
TOLERANCE = (
    1e-4  # processors and their libraries round differently, and Adam's first steps make much of it
)
RUNS = {
    "id": ["recommender.options={dropout: 0.1}"],
    "video": VIDEO,
    "video_local_multiplicity": [*VIDEO, "loss.negatives=local", "loss.multiplicity=true"],
}


def test_loss_curves(dataset_dir: Path, tmp_path: Path) -> None:
    common = [
        *tiny_overrides(dataset_dir, tmp_path),
        "optim.schedule=cosine",
        "optim.warmup=4 steps",
    ]
    runs = {name: common + changes for name, changes in RUNS.items()}
    found = run_ranks(train_runs, 1, tmp_path, runs, 0, 8, "", True)[0]
    for name in RUNS:
        file = GOLDEN / f"{name}.txt"
        if os.environ.get("MLREC_WRITE_GOLDEN"):
            file.write_text("".join(f"{loss:.5f}\n" for loss in found[name]["losses"]))
        expected = [float(line) for line in file.read_text().split()]
        assert found[name]["losses"] == pytest.approx(expected, abs=TOLERANCE), name
