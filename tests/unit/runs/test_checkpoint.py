"""Checkpoints: which exist, that damage is found, and what they load into."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mlrec.runs import checkpoint
from mlrec.runs.checkpoint import TrainingState
from mlrec.runs.checkpoint_state import digest_of
from mlrec.runtime.distributed import World

STATE = TrainingState(step=0, seed=0, fingerprint="f", global_batch=8)
PARTS = ("part-00000.safetensors", "part-00001.safetensors")
ALONE = World(0, 1, torch.device("cpu"), (1,))


def write(run: Path, step: int, metrics: dict[str, float] | None = None, width: int = 3) -> Path:
    """A checkpoint as two ranks would leave it."""
    path = checkpoint.folder_of(run) / f"step-{step:06d}"
    path.mkdir(parents=True)
    save_file({"weight/weight": torch.full((2, width), float(step))}, path / PARTS[0])
    save_file({"weight/bias": torch.zeros(2)}, path / PARTS[1])
    describe(path, replace(STATE, step=step, metrics=metrics or {}))
    return path


def describe(path: Path, state: TrainingState | None = None) -> None:
    """Writes state.json for the parts that are there now."""
    state = state or checkpoint.read_state(path)
    parts = {name: checkpoint._flush_and_hash(path / name) for name in PARTS}
    content = asdict(replace(state, parts=parts))
    content["sha256"] = digest_of(content)
    (path / checkpoint.STATE_FILE).write_text(json.dumps(content))


def edit(path: Path, **changes: object) -> None:
    """Changes keys of state.json and nothing else; None takes one out."""
    content = json.loads((path / checkpoint.STATE_FILE).read_text()) | changes
    content = {key: value for key, value in content.items() if value is not None}
    (path / checkpoint.STATE_FILE).write_text(json.dumps(content))


def test_complete_checkpoints_are_what_mlrec_named(tmp_path: Path) -> None:
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
    kept = [checkpoint.read_state(path).step for path in checkpoint.complete_checkpoints(tmp_path)]
    assert kept == [2, 4, 5]
    assert checkpoint.best(tmp_path, "hr@10").name == "step-000002", "of equal ones the earliest"
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


def test_newest_of_a_million_steps_is_found(tmp_path: Path) -> None:
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
        match=r"has no validation metric 'hr@5', which .* Set evaluate.select_by to .*: hr@10, mrr\.",
    ):
        checkpoint.best(tmp_path, "hr@5")


def test_best_compares_checkpoints_of_one_data_set(tmp_path: Path) -> None:
    describe(
        write(tmp_path, 1), replace(STATE, step=1, fingerprint="another", metrics={"hr@10": 0.9})
    )
    newer = write(tmp_path, 2, {"hr@10": 0.1})
    write(tmp_path, 3)
    assert checkpoint.best(tmp_path, "hr@10") == newer


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", '"0.3"', "true"])
def test_state_with_a_metric_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, 1, {"hr@10": 0.25})
    state = path / checkpoint.STATE_FILE
    state.write_text(state.read_text().replace("0.25", value))
    with pytest.raises(
        ValueError,
        match=rf"{state} is invalid: metrics.hr@10 is .* Remove the folder {path} to resume",
    ):
        checkpoint.best(tmp_path, "hr@10")


def test_load_weights_reads_all_parts(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    checkpoint.load_weights(model, write(tmp_path, 7))
    assert torch.equal(model.weight, torch.full((2, 3), 7.0))


def test_checkpoint_without_checksums_is_read_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, 7)
    edit(path, parts=None, sha256=None, skipped_steps=None, consecutive_skips=None)
    checkpoint.load_weights(nn.Linear(3, 2), path)
    assert [record.message for record in caplog.records] == [
        f"{path} has no checksums: an earlier mlrec wrote it. Damage to its tensors may go unnoticed"
    ]


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


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def swap(path: Path) -> None:
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
def test_damaged_checkpoint_is_never_used(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, 7)
    damage, words = DAMAGE[kind]
    damage(path)
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(
        ValueError,
        match=rf"{path}.*{words}.*\. Remove the folder {path} to resume from the checkpoint before it",
    ):
        checkpoint.load_weights(model, path)
    assert torch.equal(model.weight, before)


def test_checkpoint_under_another_steps_name_is_refused(tmp_path: Path) -> None:
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
def test_checkpoint_with_matching_checksums_is_still_checked(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, 7)
    tensors, words = REWRITTEN[kind]
    save_file(tensors, path / PARTS[0])
    describe(path)
    with pytest.raises(ValueError, match=words):
        checkpoint.load_weights(nn.Linear(3, 2), path)


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


def test_set_aside_checkpoints_are_not_read_again(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": "g"}, "the data set changed from f to g"),
        ({"global_batch": 9}, "train.global_batch changed from 8 to 9"),
        ({"seed": 1}, "seed changed from 0 to 1"),
    ],
)
def test_check_resumable_of_another_run_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    now = replace(STATE, **change)
    with pytest.raises(ValueError, match=words):
        checkpoint.check_resumable(STATE, now, tmp_path, force=False)
    checkpoint.check_resumable(STATE, now, tmp_path, force=True)


def test_state_without_the_keys_of_a_later_version_fits_its_digest(tmp_path: Path) -> None:
    path = write(tmp_path, 7)
    content = json.loads((path / checkpoint.STATE_FILE).read_text())
    del content["settings"]
    content["sha256"] = digest_of(content)
    (path / checkpoint.STATE_FILE).write_text(json.dumps(content))
    assert checkpoint.read_state(path).step == 7
