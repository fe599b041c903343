"""Write and read checkpoints, which do not depend on the number of ranks or the ZeRO stage.

    <run>/checkpoints/step-000600/state.json              TrainingState, SHA-256 of each part
    <run>/checkpoints/step-000600/part-00000.safetensors  tensors in fp32, named
        weight/<name>, exp_avg/<name> and exp_avg_sq/<name>; with train.ema also raw_weight/<name>

weight/ is what commands use that read a trained model. With train.ema these are the averages, and
training continues from raw_weight/.

A checkpoint is complete or absent. Each of W ranks writes the tensors of every W-th parameter.
Reading needs all parts and verifies them first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from mlrec import storage
from mlrec.runs.checkpoint_reader import (
    RAW_WEIGHT,
    WEIGHT,
    WeightShape,
    is_finite,
    read_moments,
    read_shapes,
    read_tensors,
)
from mlrec.runs.checkpoint_state import (
    STATE_FILE,
    Part,
    TrainingState,
    best,
    complete_checkpoints,
    digest_of,
    folder_name,
    folder_of,
    newest,
    prune,
    read_state,
    remove_partial,
    set_aside,
)
from mlrec.runtime.distributed import World, barrier, gather_objects
from mlrec.storage.tensor_files import save_tensors

__all__ = [
    "RAW_WEIGHT",
    "STATE_FILE",
    "WEIGHT",
    "NonFiniteError",
    "Part",
    "TrainingState",
    "WeightShape",
    "best",
    "complete_checkpoints",
    "folder_of",
    "is_finite",
    "load_weights",
    "newest",
    "prune",
    "read_moments",
    "read_shapes",
    "read_state",
    "read_tensors",
    "save",
    "set_aside",
    "take_weights",
]

_REMEDY = "Restore the settings that it was trained with, or train a new run under another name"


class NonFiniteError(RuntimeError):
    """A tensor that was to be saved is not finite."""


def save(
    run: Path, world: World, state: TrainingState, tensors: Iterable[tuple[int, str, torch.Tensor]]
) -> Path:
    """Write a checkpoint; collective.

    A crash leaves only a `.partial` folder, which the next save removes.

    Args:
        tensors: (index of the parameter, name, full tensor), the same on every rank. Each rank
            writes its share of them.

    Raises:
        NonFiniteError: a tensor is not finite, on any rank; the checkpoint was not written.
    """
    final = folder_of(run) / folder_name(state.step)
    partial = final.with_name(f"{final.name}.partial")
    if world.is_main:
        # Rank 0 alone: another rank's cleanup could remove the folder that this one has just made.
        remove_partial(run)
        partial.mkdir(parents=True)
    barrier()  # The folder exists before any rank writes into it.

    own_tensors = {}
    # Every rank walks through all tensors, as gathering a partitioned one is collective.
    for index, name, tensor in tensors:
        if index % world.size == world.rank:
            # On the host: the GPU holds one full tensor at a time. safetensors needs it contiguous.
            own_tensors[name] = tensor.cpu().contiguous()
    _check_all_finite(own_tensors, state.step, partial, world)

    part_file = partial / f"part-{world.rank:05d}.safetensors"
    save_tensors(own_tensors, part_file)
    # The gather also waits until every rank has flushed its part.
    parts = dict(gather_objects((part_file.name, _flush_and_hash(part_file))))
    if world.is_main:
        # Last, as it names every part: rank 0 has the size and digest of all of them only now.
        _write_state(partial, replace(state, parts=parts))
        _publish(partial, final)
    barrier()  # No rank returns before the checkpoint is complete.
    return final


def _check_all_finite(
    own_tensors: Mapping[str, torch.Tensor], step: int, partial: Path, world: World
) -> None:
    """Check the tensors of all ranks, and remove the partial folder if one fails; collective.

    Every rank raises the same error, so that none waits for the others in a later collective.
    """
    own_bad_name = _first_not_finite(own_tensors)
    bad_names = [name for name in gather_objects(own_bad_name) if name is not None]
    if not bad_names:
        return
    # No rank has written a part yet, and none will: all of them see the same names.
    if world.is_main:
        shutil.rmtree(partial)
    raise NonFiniteError(
        f"{bad_names[0]} is not finite at step {step}, so no checkpoint was written for this step"
    )


def _first_not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            return name
    return None


def _write_state(partial: Path, state: TrainingState) -> None:
    content = asdict(state)
    content["sha256"] = digest_of(content)
    path = partial / STATE_FILE
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    storage.flush(path)


def _publish(partial: Path, final: Path) -> None:
    """Give a complete checkpoint its final name, so that a power failure loses all or nothing."""
    # All content is on disk before the name is, and the name before the save counts as done.
    storage.flush(partial)
    # os.rename cannot replace a folder with content, so an older save of this step goes first.
    if final.exists():
        shutil.rmtree(final)
    os.rename(partial, final)
    storage.flush(final.parent)


def _flush_and_hash(part: Path) -> Part:
    """Return size and SHA-256 of a file that was just written."""
    # The disk works while the processor hashes.
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(storage.flush, part)
        digest = storage.sha256_of(str(part))
        flushed.result()
    return Part(part.stat().st_size, digest)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load all weights and buffers of a checkpoint into a model that DeepSpeed does not hold yet.

    Raises:
        ValueError: it is a checkpoint of another model.
    """
    expected = set(model.state_dict())
    loaded = take_weights(model, path, read_tensors(path, WEIGHT))
    # take_weights skips names that the model lacks, so they are looked for here.
    for weight in read_shapes(path):
        if weight.name not in expected:
            raise ValueError(
                f"{path} is a checkpoint of another model: it has {weight.name}, which this "
                f"configuration's model lacks. {_REMEDY}"
            )
    missing = expected - loaded
    if missing:
        raise ValueError(
            f"{path} is a checkpoint of another model: it lacks {min(missing)}. {_REMEDY}"
        )


def take_weights(
    model: nn.Module, path: Path, tensors: Iterable[tuple[str, torch.Tensor]]
) -> set[str]:
    """Load the weights and buffers that a checkpoint and a model have under the same names.

    Args:
        path: of the checkpoint, for messages.
        tensors: those of the checkpoint, as read_tensors returns them.

    Returns:
        the names.

    Raises:
        ValueError: one has another shape, or is an integer in only one of the two.
    """
    # state_dict's tensors share memory with the model: copying into them loads the weights.
    own = model.state_dict()
    loaded = set()
    for name, tensor in tensors:
        if name not in own:
            continue
        if own[name].shape != tensor.shape or _kind(own[name]) != _kind(tensor):
            raise ValueError(
                f"{path} is a checkpoint of another model: {name} is "
                f"{_describe(tensor, own[name])} in the checkpoint and "
                f"{_describe(own[name], tensor)} in this configuration's model. {_REMEDY}"
            )
        with torch.no_grad():
            own[name].copy_(tensor)
        loaded.add(name)
    return loaded


def _kind(tensor: torch.Tensor) -> object:
    """Return the part of the type that must agree."""
    # Floats may differ in width: a frozen weight of a bf16 run is bf16 in the checkpoint.
    return "float" if tensor.is_floating_point() else tensor.dtype


def _describe(tensor: torch.Tensor, other: torch.Tensor) -> str:
    """Return the shape in words, with the type where it differs from the other tensor's."""
    shape = str(list(tensor.shape))
    if _kind(tensor) == _kind(other):
        return shape
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"{dtype} {shape}"
