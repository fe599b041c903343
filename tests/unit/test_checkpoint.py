import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mlrec import checkpoint
from mlrec.checkpoint import TrainingState

STATE = TrainingState(step=0, seed=0, fingerprint="f", global_batch=8)


def write(run: Path, step: int, metrics: dict[str, float] | None = None, width: int = 3) -> Path:
    """A checkpoint as two ranks would leave it."""
    path = checkpoint.folder_of(run) / f"step-{step:06d}"
    path.mkdir(parents=True)
    save_file({"weight/weight": torch.full((2, width), float(step))}, path / "part-00000.safetensors")
    save_file({"weight/bias": torch.zeros(2)}, path / "part-00001.safetensors")
    content = replace(STATE, step=step, metrics=metrics or {})
    (path / checkpoint.STATE_FILE).write_text(json.dumps(vars(content)))
    return path


def test_half_written_checkpoints_do_not_exist(tmp_path: Path) -> None:
    complete = write(tmp_path, 6)
    (checkpoint.folder_of(tmp_path) / "step-000012.partial").mkdir()
    assert checkpoint.newest(tmp_path) == complete
    assert checkpoint.newest(tmp_path / "nothing") is None


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step, value in ((1, 0.1), (2, 0.3), (3, 0.3), (4, 0.2), (5, 0.1)):
        write(tmp_path, step, {"hr@10": value})
    checkpoint.prune(tmp_path, keep_last=2, metric="hr@10")
    kept = [checkpoint.read_state(path).step for path in checkpoint.complete_checkpoints(tmp_path)]
    assert kept == [2, 4, 5]
    assert checkpoint.best(tmp_path, "hr@10").name == "step-000002", "of equal ones the earliest"


def test_a_million_steps_come_after_fewer(tmp_path: Path) -> None:
    for step in (999_000, 1_000_000):
        write(tmp_path, step)
    assert checkpoint.newest(tmp_path).name == "step-1000000"


def test_all_parts_are_read(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    checkpoint.load_weights(model, write(tmp_path, 7))
    assert torch.equal(model.weight, torch.full((2, 3), 7.0))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(4, 2), r"weight is \[2, 3\] there and \[2, 4\]"),
        (nn.Linear(3, 2, bias=False), "it has bias, which"),
        (nn.Sequential(nn.Linear(3, 2)), "it has"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, model: nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checkpoint.load_weights(model, write(tmp_path, 7))


def test_a_damaged_part_names_the_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, 7)
    (path / "part-00000.safetensors").write_bytes(b"half a fi")
    with pytest.raises(ValueError, match=r"is damaged .*remove the folder"):
        checkpoint.load_weights(nn.Linear(3, 2), path)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"fingerprint": "g"}, "the data set f"), ({"global_batch": 9}, "train.global_batch 8"), ({"seed": 1}, "seed 0")],
)
def test_a_run_does_not_go_on_as_another(tmp_path: Path, change: dict[str, object], words: str) -> None:
    now = replace(STATE, **change)
    with pytest.raises(ValueError, match=words):
        checkpoint.check_resumable(STATE, now, tmp_path, force=False)
    checkpoint.check_resumable(STATE, now, tmp_path, force=True)
