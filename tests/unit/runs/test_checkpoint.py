"""Checkpoints: which exist, which are removed, and what they load into."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import ALONE, PARTS, STATE, describe, write
from safetensors.torch import load_file, save_file
from torch import nn

from mlrec.runs import checkpoint


def test_newest_ignores_folders_that_mlrec_did_not_name(tmp_path: Path) -> None:
    complete = write(tmp_path, 6)
    for name in (
        "step-000012.partial",
        "step-000012.bak",
        "step-000012.diverged",
        "step-12",
        "step-0000012",
        "step-late",
    ):
        (checkpoint.folder_of(tmp_path) / name).mkdir()
    assert checkpoint.newest(tmp_path) == complete
    assert checkpoint.newest(tmp_path / "nothing") is None


def test_prune_keeps_newest_and_best_and_what_it_did_not_create(tmp_path: Path) -> None:
    for step, value in ((1, 0.1), (2, 0.3), (3, 0.3), (4, 0.2), (5, 0.1)):
        write(tmp_path, step, {"hr@10": value})
    shutil.copytree(checkpoint.newest(tmp_path), checkpoint.folder_of(tmp_path) / "step-000005.bak")
    checkpoint.prune(tmp_path, keep_last=2, metric="hr@10")
    complete = checkpoint.complete_checkpoints(tmp_path)
    assert [checkpoint.read_state(path).step for path in complete] == [2, 4, 5]
    assert checkpoint.best(tmp_path, "hr@10").name == "step-000002", (
        "the earliest of equal checkpoints"
    )
    assert (checkpoint.folder_of(tmp_path) / "step-000005.bak" / PARTS[0]).exists()


def test_save_removes_only_its_own_partial_folders(tmp_path: Path) -> None:
    folder = checkpoint.folder_of(tmp_path)
    for name in ("step-000003.partial", "notes.partial", "step-3.partial"):
        (folder / name).mkdir(parents=True)
    (folder / "step-000004.partial").write_text("a file")
    path = checkpoint.save(
        tmp_path, ALONE, replace(STATE, step=5), [(0, "weight/a", torch.ones(2))]
    )
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "notes.partial",
        "step-000004.partial",
        "step-000005",
        "step-3.partial",
    ]
    assert [(name, value.tolist()) for name, value in checkpoint.read_tensors(path, "weight/")] == [
        ("a", [1.0, 1.0])
    ]


def test_newest_of_a_million_steps_is_by_number(tmp_path: Path) -> None:
    for step in (999_000, 1_000_000):
        write(tmp_path, step)
    assert checkpoint.newest(tmp_path).name == "step-1000000"


def test_best_without_evaluation_is_the_newest(tmp_path: Path) -> None:
    write(tmp_path, 1)
    newer = write(tmp_path, 2)
    assert checkpoint.best(tmp_path, "hr@10") == newer


def test_best_with_unknown_metric_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1, {"hr@10": 0.1, "mrr": 0.2})
    with pytest.raises(
        ValueError,
        match=r"has no validation metric 'hr@5', which .* "
        r"Set evaluate.select_by to .*: hr@10, mrr\.",
    ):
        checkpoint.best(tmp_path, "hr@5")


def test_best_ignores_checkpoints_of_another_data_set(tmp_path: Path) -> None:
    describe(
        write(tmp_path, 1), replace(STATE, step=1, fingerprint="another", metrics={"hr@10": 0.9})
    )
    newer = write(tmp_path, 2, {"hr@10": 0.1})
    write(tmp_path, 3)
    assert checkpoint.best(tmp_path, "hr@10") == newer


def test_load_weights_reads_all_parts(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    checkpoint.load_weights(model, write(tmp_path, 7))
    assert torch.equal(model.weight, torch.full((2, 3), 7.0))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(4, 2), r"weight is \[2, 3\] in the checkpoint and \[2, 4\]"),
        (nn.Linear(3, 2, bias=False), "it has bias, which"),
        (nn.Sequential(nn.Linear(3, 2)), "it has"),
    ],
)
def test_load_weights_of_another_model_is_refused(
    tmp_path: Path, model: nn.Module, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        checkpoint.load_weights(model, write(tmp_path, 7))


@pytest.mark.parametrize(
    ("moments", "words"),
    [
        ({}, r"lacks exp_avg_sq of weight. Set resume.force=true to start it from zero"),
        (
            {"weight": torch.zeros(3, 2)},
            r"exp_avg_sq of weight is torch.float32 \[3, 2\], not \[2, 3\]",
        ),
        ({"weight": torch.full((2, 3), -1.0)}, "exp_avg_sq of weight is negative"),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)},
            "has exp_avg_sq of bias, which is not trained now",
        ),
    ],
)
def test_read_moments_that_do_not_fit_is_refused(
    tmp_path: Path, moments: dict[str, torch.Tensor], words: str
) -> None:
    path = write(tmp_path, 7)
    tensors = load_file(path / PARTS[0]) | {
        f"exp_avg_sq/{name}": value for name, value in moments.items()
    }
    save_file(tensors, path / PARTS[0])
    describe(path)
    with pytest.raises(ValueError, match=words):
        list(checkpoint.read_moments(path, "exp_avg_sq", {"weight": (2, 3)}, force=False))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_save_of_a_tensor_that_is_not_finite_writes_nothing(tmp_path: Path, value: float) -> None:
    tensors = [(0, "weight/a", torch.ones(3)), (1, "exp_avg/a", torch.tensor([0.0, value]))]
    with pytest.raises(checkpoint.NonFiniteError, match="exp_avg/a is not finite at step 5"):
        checkpoint.save(tmp_path, ALONE, replace(STATE, step=5), tensors)
    assert list(checkpoint.folder_of(tmp_path).iterdir()) == []


def test_set_aside_checkpoints_are_ignored(tmp_path: Path) -> None:
    first, *later = (write(tmp_path, step) for step in (3, 5, 8))
    assert [path.name for path in checkpoint.set_aside(tmp_path, 5)] == [
        "step-000005.diverged",
        "step-000008.diverged",
    ]
    assert checkpoint.complete_checkpoints(tmp_path) == [first]
    assert not any(path.exists() for path in later)
    write(tmp_path, 5)
    assert [path.name for path in checkpoint.set_aside(tmp_path, 5)] == ["step-000005.diverged"], (
        "an older one is replaced"
    )
