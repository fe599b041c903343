"""The checkpoints of a run: their states, the newest and the best one, and which are removed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mlrec.config.run_files import CHECKPOINTS
from mlrec.storage.typed_json import STRICT, parse_json, read_bounded

STATE_FILE = "state.json"
DIVERGED = ".diverged"
"""Suffix of a checkpoint folder whose weights gave no finite gradient; it is never read."""
# Room for the parts of tens of thousands of ranks; a longer file is damaged, and is not read.
MAX_STATE_BYTES = 4 << 20
# Above any real count or size of a part in bytes (1 TiB), and exact as a float.
MAX_COUNT = 1 << 40

_NAME = re.compile(r"step-([0-9]{6,13})")

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


@dataclass(frozen=True)
class Part:
    """One rank's file of a checkpoint."""

    __pydantic_config__ = STRICT

    size: Count
    """Bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class TrainingState:
    """What a run continues from besides the tensors. The whole state of the data is the step."""

    __pydantic_config__ = STRICT

    step: Count
    """Steps done, skipped ones included."""
    seed: int
    fingerprint: str
    """Of the data set."""
    global_batch: Annotated[int, Field(ge=1, le=MAX_COUNT)]
    metrics: dict[str, float] = field(default_factory=dict)
    """Validation metrics at this step, if it was evaluated."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that define the model, see `compatibility.model_settings`. Empty in old ones."""
    skipped_steps: Count = 0
    """Steps that were skipped because their gradient was not finite; Adam did not count them."""
    consecutive_skips: Count = 0
    """Of these, the steps since the last update."""
    stale_validations: Count = 0
    """Validations since the best one, for train.patience."""
    parts: dict[str, Part] = field(default_factory=dict)
    """Every file of tensors, by name. Empty in old checkpoints, which had no checksums."""
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of all other fields; see `digest_of`."""

    def __post_init__(self) -> None:
        # Adam's step counter is restored as step - skipped_steps, which must not be negative.
        if not self.consecutive_skips <= self.skipped_steps <= self.step:
            raise ValueError(
                f"consecutive_skips ({self.consecutive_skips}), skipped_steps "
                f"({self.skipped_steps}) and step ({self.step}) must not decrease in this order"
            )


def folder_of(run: Path) -> Path:
    """Return the folder that holds a run's checkpoints."""
    return run / CHECKPOINTS


def _step_of(name: str) -> int | None:
    """Return the step in the name of a checkpoint's folder, or None for any other name."""
    match = _NAME.fullmatch(name)
    step = int(match[1]) if match else None
    # step-0000600 would be a second name of step 600.
    return step if step is not None and name == folder_name(step) else None


def folder_name(step: int) -> str:
    """Return the name of a checkpoint's folder."""
    return f"step-{step:06d}"


def complete_checkpoints(run: Path) -> list[Path]:
    """Return all checkpoints of the run, oldest first.

    Folders with other names, such as step-000600.bak, are neither read nor removed.
    """
    steps = {
        step: path
        for path in folder_of(run).glob("step-*")
        if (step := _step_of(path.name)) is not None
    }
    return [steps[step] for step in sorted(steps)]  # from a million on, names are longer


def newest(run: Path) -> Path | None:
    """Return the newest checkpoint, or None."""
    complete = complete_checkpoints(run)
    return complete[-1] if complete else None


def best(run: Path, metric: str) -> Path | None:
    """Return the checkpoint with the highest validation metric, the earliest of equal ones.

    Only checkpoints on the data set of the newest one compete. If none of them was evaluated, the
    newest is returned.

    Raises:
        ValueError: a checkpoint is damaged, or the evaluated checkpoints do not have this metric.
    """
    states = {path: read_state(path) for path in complete_checkpoints(run)}
    if not states:
        return None
    last = next(reversed(states.values()))
    evaluated = {
        path: state.metrics
        for path, state in states.items()
        if state.metrics and state.fingerprint == last.fingerprint
    }
    for path, metrics in evaluated.items():
        if metric not in metrics:
            raise ValueError(
                f"{path / STATE_FILE} has no validation metric {metric!r}, which "
                "evaluate.select_by names. Set evaluate.select_by to one that it has: "
                f"{', '.join(name for name in metrics if '/' not in name)}."
            )
    # max returns the first of equal values, and the states are in the order of their steps.
    return (
        max(evaluated, key=lambda path: evaluated[path][metric])
        if evaluated
        else next(reversed(states))
    )


def remedy_of(path: Path) -> str:
    """Return what to do about a damaged checkpoint, without a full stop."""
    return (
        f"Remove the folder {path} to resume from the checkpoint before it, "
        "or from the start if there is none"
    )


def read_state(path: Path) -> TrainingState:
    """Return the state of a checkpoint.

    Raises:
        ValueError: state.json is missing or damaged, or the folder is another step's.
    """
    where, remedy = path / STATE_FILE, remedy_of(path)
    raw = read_bounded(where, MAX_STATE_BYTES, remedy)
    state = parse_json(raw, TrainingState, str(where), remedy)
    # Old states have neither parts nor a digest; one with parts must have its digest too.
    if (state.parts or state.sha256) and state.sha256 != digest_of(json.loads(raw)):
        raise ValueError(
            f"{where} is damaged: its content does not have the SHA-256 that it names. {remedy}."
        )
    # In a renamed folder, training would continue from a wrong place in the data without notice.
    if state.step != _step_of(path.name):
        raise ValueError(
            f"{where} is of step {state.step}, but the folder is {path.name}. {remedy}."
        )
    return state


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of state.json with an empty `sha256`, whatever other keys it has."""
    # Sorted, so that the digest does not depend on the order in which a version wrote the keys.
    return hashlib.sha256(
        json.dumps({**content, "sha256": ""}, sort_keys=True).encode()
    ).hexdigest()


def remove_partial(run: Path) -> None:
    """Remove what a crash during a save or a removal left; other files and folders stay."""
    for stray in folder_of(run).glob("step-*.partial"):
        if _step_of(stray.stem) is not None and stray.is_dir() and not stray.is_symlink():
            shutil.rmtree(stray)


def prune(run: Path, keep_last: int, metric: str) -> None:
    """Remove all checkpoints but the newest `keep_last` and the best."""
    keep = {*complete_checkpoints(run)[-keep_last:], best(run, metric)}
    for path in complete_checkpoints(run):
        if path not in keep:
            # Renamed first: a crash while files are removed leaves no half of a checkpoint.
            doomed = path.with_name(f"{path.name}.partial")
            os.rename(path, doomed)
            shutil.rmtree(doomed)


def set_aside(run: Path, first_step: int) -> list[Path]:
    """Rename the checkpoints from `first_step` on, so that no command reads them.

    Returns:
        Their new paths.
    """
    renamed = []
    for path in complete_checkpoints(run):
        if (_step_of(path.name) or 0) >= first_step:
            target = path.with_name(f"{path.name}{DIVERGED}")
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            os.rename(path, target)
            renamed.append(target)
    return renamed
