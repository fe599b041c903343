"""Checkpoints on disk: complete or absent, the same for any number of ranks and any ZeRO stage.

    <run>/checkpoints/step-000600/state.json              TrainingState, with size and SHA-256 of each part
    <run>/checkpoints/step-000600/part-00000.safetensors  weight/<name>, exp_avg/<name>, exp_avg_sq/<name> in fp32

Each rank writes the tensors of every W-th parameter. Reading needs all parts and nothing else, and verifies them first.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from mlrec import storage
from mlrec.runs.checkpoint_state import (
    STATE_FILE,
    Part,
    TrainingState,
    best,
    check_resumable,
    complete_checkpoints,
    digest_of,
    folder_name,
    folder_of,
    newest,
    prune,
    read_state,
    remedy_of,
    remove_partial,
    set_aside,
)
from mlrec.runtime.distributed import World, barrier, gather_objects
from mlrec.runtime.printable import brief
from mlrec.storage.tensor_files import save_tensors

__all__ = [
    "STATE_FILE",
    "WEIGHT",
    "NonFiniteError",
    "Part",
    "TrainingState",
    "best",
    "check_resumable",
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

WEIGHT = "weight/"

_PART = re.compile(r"part-[0-9]{5,}\.safetensors")

log = logging.getLogger(__name__)


class NonFiniteError(RuntimeError):
    """A tensor that was to be saved is not finite."""


def save(
    run: Path, world: World, state: TrainingState, tensors: Iterable[tuple[int, str, torch.Tensor]]
) -> Path:
    """Write a checkpoint; collective. A crash leaves only a `.partial` folder, which the next save removes.

    Args:
        tensors: (index of the parameter, name, full tensor), the same on every rank; each rank writes its share of them.

    Raises:
        NonFiniteError: a tensor is not finite, on any rank; the checkpoint was not written.
    """
    final = folder_of(run) / folder_name(state.step)
    partial = final.with_name(f"{final.name}.partial")
    if world.is_main:
        remove_partial(run)
        partial.mkdir(parents=True)
    barrier()
    own = {
        name: tensor.cpu().contiguous()
        for index, name, tensor in tensors
        if index % world.size == world.rank
    }
    bad = [name for found in gather_objects(_first_not_finite(own)) for name in found]
    if bad:
        if world.is_main:
            shutil.rmtree(partial)
        raise NonFiniteError(
            f"{bad[0]} is not finite at step {state.step}, so that no checkpoint of it was written"
        )
    part = partial / f"part-{world.rank:05d}.safetensors"
    save_tensors(own, part)
    parts = dict(gather_objects((part.name, _flush_and_hash(part))))
    if world.is_main:
        content = asdict(replace(state, parts=parts))
        content["sha256"] = digest_of(content)
        (partial / STATE_FILE).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        storage.flush(partial / STATE_FILE)
        storage.flush(partial)
        if final.exists():
            shutil.rmtree(final)
        os.rename(partial, final)
        storage.flush(final.parent)
    barrier()
    return final


def _first_not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    return [name for name, tensor in tensors.items() if not is_finite(tensor)][:1]


def is_finite(tensor: torch.Tensor) -> bool:
    """Return whether all values are finite; whole numbers always are."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _flush_and_hash(part: Path) -> Part:
    """Return size and SHA-256 of a file that was just written, hashed while the disk takes it."""
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(storage.flush, part)
        digest = storage.sha256_of(str(part))
        flushed.result()
    return Part(part.stat().st_size, digest)


def _parts(path: Path) -> list[Path]:
    """Return the checkpoint's files of tensors, verified: none is missing, extra, or other than when it was written.

    Raises:
        ValueError: one is; the message names it.
    """
    state = read_state(path)
    part_files = sorted(file for file in path.glob("part-*") if _PART.fullmatch(file.name))
    if not state.parts:
        _note_missing_checksums(path)
        if not part_files:
            raise ValueError(f"{path} has no part-00000.safetensors. {remedy_of(path)}.")
        return part_files
    if missing := sorted(state.parts.keys() - {file.name for file in part_files}):
        raise ValueError(f"{path / missing[0]} is missing. {remedy_of(path)}.")
    if extra := next((file for file in part_files if file.name not in state.parts), None):
        raise ValueError(
            f"{extra} is not a part of this checkpoint, which has {len(state.parts)}. {remedy_of(path)}."
        )
    for file in part_files:
        _verify(file, state.parts[file.name], path)
    return part_files


@functools.cache
def _note_missing_checksums(path: Path) -> None:
    log.warning(
        "%s has no checksums: an earlier mlrec wrote it. Damage to its tensors may go unnoticed",
        path,
    )


def _verify(file: Path, part: Part, path: Path) -> None:
    about = file.stat()
    if about.st_size != part.size:
        raise ValueError(
            f"{file} is damaged: it has {about.st_size:,} bytes of {part.size:,}. {remedy_of(path)}."
        )
    if _sha256(file, about.st_size, about.st_mtime_ns, about.st_ino) != part.sha256:
        raise ValueError(
            f"{file} is damaged: its content does not have the SHA-256 of when it was written. {remedy_of(path)}."
        )


@functools.lru_cache(maxsize=1024)
def _sha256(file: Path, size: int, changed_ns: int, inode: int) -> str:
    """Hash a file, once while it stays as it is: weights and both moments are read from the same parts."""
    del size, changed_ns, inode
    return storage.sha256_of(str(file))


def read_tensors(path: Path, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name without `prefix` and tensor of the checkpoint's tensors whose names begin with it, one at a time.

    Raises:
        ValueError: a part is damaged, or a tensor is not finite.
    """
    seen: dict[str, Path] = {}
    for part in _parts(path):
        with _opened(part, path) as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                if not name.startswith(prefix):
                    continue
                if name in seen:
                    raise ValueError(
                        f"{part} holds {name}, which {seen[name].name} holds too. {remedy_of(path)}."
                    )
                seen[name] = part
                tensor = file.get_tensor(name)
                if not is_finite(tensor):
                    raise ValueError(f"{part} is damaged: {name} is not finite. {remedy_of(path)}.")
                yield name.removeprefix(prefix), tensor


def _opened(part: Path, path: Path) -> safe_open:
    try:
        return safe_open(part, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{part} is damaged ({brief(error)}). {remedy_of(path)}.") from error


def read_moments(
    path: Path, moment: str, shapes: Mapping[str, Sequence[int]], force: bool
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and value of one of Adam's moments for each trained parameter.

    Args:
        shapes: of the trained parameters, by name.
        force: leave out the moments of parameters that are not trained now, and start from zero those that were not then.

    Raises:
        ValueError: a moment is missing or left over, or has another shape or negative squares.
    """
    missing = set(shapes)
    for name, value in read_tensors(path, f"{moment}/"):
        if name not in shapes:
            if force:
                continue
            raise ValueError(
                f"{path} has {moment} of {name}, which is not trained now. Set resume.force=true to leave it out."
            )
        if tuple(value.shape) != tuple(shapes[name]) or not value.is_floating_point():
            raise ValueError(
                f"{path} is of another model: {moment} of {name} is {value.dtype} {list(value.shape)}, not {list(shapes[name])}. "
                f"{remedy_of(path)}."
            )
        if moment.endswith("_sq") and value.numel() and float(value.min()) < 0:
            raise ValueError(
                f"{path} is damaged: {moment} of {name} is negative. {remedy_of(path)}."
            )
        missing.discard(name)
        yield name, value
    if missing and not force:
        raise ValueError(
            f"{path} lacks {moment} of {min(missing)}. Set resume.force=true to start it from zero."
        )


def read_shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Yield name, shape and whether it is trained of each weight of a checkpoint, by name; no tensor is read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part in _parts(path):
        with _opened(part, path) as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    for name in sorted(name.removeprefix(WEIGHT) for name in shapes if name.startswith(WEIGHT)):
        yield name, shapes[WEIGHT + name], f"exp_avg/{name}" in shapes


def load_weights(model: nn.Module, path: Path) -> None:
    """Load all weights and buffers of a checkpoint into a model that DeepSpeed does not hold yet.

    Raises:
        ValueError: it is a checkpoint of another model.
    """
    expected = set(model.state_dict())
    taken = take_weights(model, path)
    if unknown := next((name for name, _, _ in read_shapes(path) if name not in expected), None):
        raise ValueError(
            f"{path} is a checkpoint of another model: it has {unknown}, which this configuration's model has not"
        )
    if missing := expected - taken:
        raise ValueError(f"{path} is a checkpoint of another model: it lacks {min(missing)}")


def take_weights(model: nn.Module, path: Path) -> set[str]:
    """Load those weights and buffers of a checkpoint that a model has under the same names; return the names.

    Raises:
        ValueError: one has another shape, or is a whole number where the model has a fraction, or the reverse.
    """
    own, taken = model.state_dict(), set()
    for name, tensor in read_tensors(path, WEIGHT):
        if name not in own:
            continue
        if own[name].shape != tensor.shape or _kind(own[name]) != _kind(tensor):
            raise ValueError(
                f"{path} is a checkpoint of another model: {name} is {_described(tensor, own[name])} there and "
                f"{_described(own[name], tensor)} in this configuration's model"
            )
        with torch.no_grad():
            own[name].copy_(tensor)
        taken.add(name)
    return taken


def _kind(tensor: torch.Tensor) -> object:
    """Return what must agree: fractions may differ in width (a frozen weight of a bf16 run is bf16), other types not."""
    return "float" if tensor.is_floating_point() else tensor.dtype


def _described(tensor: torch.Tensor, other: torch.Tensor) -> str:
    shape = str(list(tensor.shape))
    return (
        shape
        if _kind(tensor) == _kind(other)
        else f"{str(tensor.dtype).removeprefix('torch.')} {shape}"
    )
