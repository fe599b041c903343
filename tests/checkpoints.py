"""Small checkpoints, written and edited without a run."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from mlrec.runs import checkpoint
from mlrec.runs.checkpoint import TrainingState
from mlrec.runs.checkpoint_state import digest_of
from mlrec.runtime.distributed import World

STATE = TrainingState(step=0, seed=0, fingerprint="f", global_batch=8)


PARTS = ("part-00000.safetensors", "part-00001.safetensors")


ALONE = World(0, 1, torch.device("cpu"), (1,))


def write(run: Path, step: int, metrics: dict[str, float] | None = None, width: int = 3) -> Path:
    """Write a checkpoint as two ranks would leave it and return its folder."""
    path = checkpoint.folder_of(run) / f"step-{step:06d}"
    path.mkdir(parents=True)
    save_file({"weight/weight": torch.full((2, width), float(step))}, path / PARTS[0])
    save_file({"weight/bias": torch.zeros(2)}, path / PARTS[1])
    describe(path, replace(STATE, step=step, metrics=metrics or {}))
    return path


def describe(path: Path, state: TrainingState | None = None) -> None:
    """Write state.json for the parts in the folder, with fresh checksums."""
    state = state or checkpoint.read_state(path)
    parts = {name: checkpoint._flush_and_hash(path / name) for name in PARTS}
    content = asdict(replace(state, parts=parts))
    content["sha256"] = digest_of(content)
    (path / checkpoint.STATE_FILE).write_text(json.dumps(content))


def edit(path: Path, **changes: object) -> None:
    """Change keys of state.json without fresh checksums. None removes a key."""
    content = json.loads((path / checkpoint.STATE_FILE).read_text()) | changes
    content = {key: value for key, value in content.items() if value is not None}
    (path / checkpoint.STATE_FILE).write_text(json.dumps(content))
