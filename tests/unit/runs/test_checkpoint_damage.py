"""Damaged checkpoints are refused with the file and the remedy."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import PARTS, describe, edit, write
from safetensors.torch import save_file
from torch import nn

from mlrec.runs import checkpoint
from mlrec.runs.checkpoint_state import digest_of


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", '"0.3"', "true"])
def test_best_metric_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, 1, {"hr@10": 0.25})
    state = path / checkpoint.STATE_FILE
    state.write_text(state.read_text().replace("0.25", value))
    with pytest.raises(
        ValueError,
        match=rf"{state} is invalid: metrics.hr@10 is .* Remove the folder {path} to resume",
    ):
        checkpoint.best(tmp_path, "hr@10")


def test_load_weights_without_checksums_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, 7)
    edit(path, parts=None, sha256=None, skipped_steps=None, consecutive_skips=None)
    checkpoint.load_weights(nn.Linear(3, 2), path)
    assert [record.message for record in caplog.records] == [
        f"{path} has no checksums: an earlier mlrec wrote it. "
        "Damage to its tensors may go unnoticed"
    ]


def flip(file: Path) -> None:
    """Flip the last bit of a file."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def swap(path: Path) -> None:
    """Exchange the content of the two parts."""
    first, second = ((path / name).read_bytes() for name in PARTS)
    (path / PARTS[0]).write_bytes(second)
    (path / PARTS[1]).write_bytes(first)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "part missing": (lambda path: (path / PARTS[1]).unlink(), f"{PARTS[1]} is missing"),
    "part extra": (
        lambda path: shutil.copy(path / PARTS[0], path / "part-00002.safetensors"),
        "part-00002.safetensors is not a",
    ),
    "part truncated": (
        lambda path: (path / PARTS[0]).write_bytes(b"half a fi"),
        f"{PARTS[0]} is damaged: it has 9 bytes",
    ),
    "part empty": (
        lambda path: (path / PARTS[0]).write_bytes(b""),
        f"{PARTS[0]} is damaged: it has 0 bytes",
    ),
    "part flipped": (lambda path: flip(path / PARTS[0]), f"{PARTS[0]} is damaged: its content"),
    "parts swapped": (swap, f"{PARTS[0]} is damaged"),
    "state missing": (
        lambda path: (path / checkpoint.STATE_FILE).unlink(),
        "state.json is missing",
    ),
    "state empty": (
        lambda path: (path / checkpoint.STATE_FILE).write_bytes(b""),
        "state.json is invalid: Invalid JSON",
    ),
    "state truncated": (
        lambda path: (path / checkpoint.STATE_FILE).write_bytes(b'{"step": 7,'),
        "state.json is invalid",
    ),
    "state is a list": (
        lambda path: (path / checkpoint.STATE_FILE).write_bytes(b"[7]"),
        "state.json is invalid",
    ),
    "state of another step": (
        lambda path: edit(path, step=8),
        "state.json is damaged: its content does not have the SHA-256",
    ),
    "parts removed": (
        lambda path: edit(path, parts={}),
        "state.json is damaged: its content does not have the SHA-256",
    ),
    "seed changed": (lambda path: edit(path, seed=1), "state.json is damaged"),
    "step is text": (lambda path: edit(path, step="7"), "state.json is invalid: step is '7'"),
    "step is negative": (lambda path: edit(path, step=-7), "state.json is invalid: step is -7"),
    "step is huge": (lambda path: edit(path, step=10**30), "state.json is invalid"),
    "key unknown": (
        lambda path: edit(path, steps=7),
        "state.json is invalid: steps is 7: Unexpected",
    ),
    "size changed": (
        lambda path: edit(path, parts={name: {"size": 1, "sha256": "0" * 64} for name in PARTS}),
        "is damaged",
    ),
    "part outside": (
        lambda path: (
            describe(path, replace(checkpoint.read_state(path), skipped_steps=0))
            or edit(path, parts={"../x": None})
        ),
        "state.json is invalid",
    ),
    "counts contradict": (
        lambda path: edit(path, skipped_steps=2, consecutive_skips=3),
        "state.json is invalid: consecutive_skips",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_load_weights_of_a_damaged_checkpoint_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, 7)
    damage, words = DAMAGE[kind]
    damage(path)
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(
        ValueError,
        match=rf"{path}.*{words}.*\. "
        rf"Remove the folder {path} to resume from the checkpoint before it",
    ):
        checkpoint.load_weights(model, path)
    assert torch.equal(model.weight, before)


def test_read_state_under_another_steps_name_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 7)
    copy = Path(shutil.copytree(path, path.with_name("step-000009")))
    with pytest.raises(
        ValueError, match=f"{copy}/state.json is of step 7, but the folder is step-000009"
    ):
        checkpoint.read_state(copy)


REWRITTEN: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "not a number": ({"weight/weight": torch.full((2, 3), torch.nan)}, "weight is not finite"),
    "infinite": ({"weight/weight": torch.full((2, 3), torch.inf)}, "weight is not finite"),
    "whole numbers": (
        {"weight/weight": torch.ones(2, 3, dtype=torch.int64)},
        r"weight is int64 \[2, 3\] in the checkpoint",
    ),
    "twice": (
        {"weight/weight": torch.ones(2, 3), "weight/bias": torch.ones(2)},
        "holds weight/bias, which",
    ),
    "nothing": ({}, "it lacks weight"),
}


@pytest.mark.parametrize("kind", REWRITTEN)
def test_load_weights_unfit_tensors_with_matching_checksums_are_refused(
    tmp_path: Path, kind: str
) -> None:
    path = write(tmp_path, 7)
    tensors, words = REWRITTEN[kind]
    save_file(tensors, path / PARTS[0])
    describe(path)
    with pytest.raises(ValueError, match=words):
        checkpoint.load_weights(nn.Linear(3, 2), path)


def test_read_state_without_later_keys_matches_its_digest(tmp_path: Path) -> None:
    path = write(tmp_path, 7)
    content = json.loads((path / checkpoint.STATE_FILE).read_text())
    del content["settings"]
    content["sha256"] = digest_of(content)
    (path / checkpoint.STATE_FILE).write_text(json.dumps(content))
    assert checkpoint.read_state(path).step == 7
