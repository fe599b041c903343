"""Checkpoints on disk: complete or absent, the same for any number of ranks and any ZeRO stage.

    <run>/checkpoints/step-000600/state.json              TrainingState
    <run>/checkpoints/step-000600/part-00000.safetensors  weight/<name>, exp_avg/<name>, exp_avg_sq/<name> in fp32

Each rank writes the tensors of every W-th parameter; reading needs all parts and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from mlrec.distributed import World, barrier
from mlrec.run_files import CHECKPOINTS

STATE_FILE = "state.json"
WEIGHT = "weight/"


@dataclass(frozen=True)
class TrainingState:
    """What beside the tensors a run continues from: the whole state of the data is the step."""

    step: int
    """Steps done."""
    seed: int
    fingerprint: str
    """Of the data set."""
    global_batch: int
    metrics: dict[str, float] = field(default_factory=dict)
    """Validation metrics at this step, where it was evaluated."""


def folder_of(run: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run / CHECKPOINTS


def complete_checkpoints(run: Path) -> list[Path]:
    """All checkpoints of the run, oldest first."""
    found = (path for path in folder_of(run).glob("step-*") if path.suffix != ".partial")
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))  # from a million on, names are longer


def newest(run: Path) -> Path | None:
    """The newest checkpoint, or None."""
    found = complete_checkpoints(run)
    return found[-1] if found else None


def best(run: Path, metric: str) -> Path | None:
    """The checkpoint with the highest validation metric; of equal ones, the earliest; the newest where none was evaluated."""
    evaluated = [
        (path, value) for path in complete_checkpoints(run) if (value := read_state(path).metrics.get(metric)) is not None
    ]
    return max(evaluated, key=lambda entry: entry[1])[0] if evaluated else newest(run)


def read_state(path: Path) -> TrainingState:
    """The state of a checkpoint."""
    return TrainingState(**json.loads((path / STATE_FILE).read_text()))


def save(run: Path, world: World, state: TrainingState, tensors: Iterable[tuple[int, str, torch.Tensor]]) -> Path:
    """Writes a checkpoint; collective. A crash on the way leaves only a `.partial` folder, which the next save removes.

    Args:
        tensors: (index of the parameter, name, full tensor) on every rank alike; each rank keeps its share of them.
    """
    final = folder_of(run) / f"step-{state.step:06d}"
    partial = final.with_name(f"{final.name}.partial")
    if world.is_main:
        for stray in folder_of(run).glob("*.partial"):
            shutil.rmtree(stray)
        partial.mkdir(parents=True)
    barrier()
    own = {name: tensor.cpu().contiguous() for index, name, tensor in tensors if index % world.size == world.rank}
    part = partial / f"part-{world.rank:05d}.safetensors"
    save_file(own, part)
    _flush(part)
    barrier()
    if world.is_main:
        (partial / STATE_FILE).write_text(json.dumps(asdict(state), indent=1) + "\n")
        _flush(partial / STATE_FILE)
        _flush(partial)
        if final.exists():
            shutil.rmtree(final)
        os.rename(partial, final)
        _flush(final.parent)
    barrier()
    return final


def prune(run: Path, keep_last: int, metric: str) -> None:
    """Removes all checkpoints but the newest `keep_last` and the best."""
    keep = {*complete_checkpoints(run)[-keep_last:], best(run, metric)}
    for path in complete_checkpoints(run):
        if path not in keep:
            doomed = path.with_name(f"{path.name}.partial")  # out of sight in one stroke, then removed
            os.rename(path, doomed)
            shutil.rmtree(doomed)


def read_tensors(path: Path, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The checkpoint's tensors whose names begin with `prefix`, one at a time, without it.

    Raises:
        ValueError: a part is damaged.
    """
    for part in sorted(path.glob("part-*.safetensors")):
        try:
            with safe_open(part, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    if name.startswith(prefix):
                        yield name.removeprefix(prefix), file.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"{part} is damaged ({error}); remove the folder {path} to go on from the one before it") from error


def read_shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Name and shape of each weight of a checkpoint, and whether it is trained, by name; no tensor is read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part in path.glob("part-*.safetensors"):
        with safe_open(part, framework="pt") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    for name in sorted(name.removeprefix(WEIGHT) for name in shapes if name.startswith(WEIGHT)):
        yield name, shapes[WEIGHT + name], f"exp_avg/{name}" in shapes


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads all weights and buffers of a checkpoint into a model that DeepSpeed does not hold yet.

    Raises:
        ValueError: it is a checkpoint of another model.
    """
    expected = set(model.state_dict())
    taken = take_weights(model, path)
    if unknown := next((name for name, _, _ in read_shapes(path) if name not in expected), None):
        raise ValueError(f"{path} is a checkpoint of another model: it has {unknown}, which this configuration's model has not")
    if missing := expected - taken:
        raise ValueError(f"{path} is a checkpoint of another model: it lacks {min(missing)}")


def take_weights(model: nn.Module, path: Path) -> set[str]:
    """Loads those weights and buffers of a checkpoint that a model has under the same names; returns the names.

    Raises:
        ValueError: one has another shape.
    """
    own, taken = model.state_dict(), set()
    for name, tensor in read_tensors(path, WEIGHT):
        if name not in own:
            continue
        if own[name].shape != tensor.shape:
            raise ValueError(
                f"{path} is a checkpoint of another model: {name} is {list(tensor.shape)} there and "
                f"{list(own[name].shape)} in this configuration's model"
            )
        with torch.no_grad():
            own[name].copy_(tensor)
        taken.add(name)
    return taken


def check_resumable(state: TrainingState, now: TrainingState, path: Path, force: bool) -> None:
    """
    Raises:
        ValueError: the data set, the global batch or the seed is not the checkpoint's, and `force` is off.
    """
    names: Mapping[str, str] = {"fingerprint": "the data set", "global_batch": "train.global_batch", "seed": "seed"}
    for key, name in names.items():
        before, after = getattr(state, key), getattr(now, key)
        if before != after and not force:
            raise ValueError(
                f"{path} was trained with {name} {before}, this run has {after}: it would not go on as it began; "
                "choose another run_dir, or set resume.force=true"
            )


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
