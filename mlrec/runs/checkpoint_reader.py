"""Verify a checkpoint's files, and read its tensors or their shapes."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from mlrec import storage
from mlrec.runs.checkpoint_state import Part, read_state, remedy_of
from mlrec.runtime.printable import brief

WEIGHT = "weight/"
"""What the names of weights and buffers start with in a checkpoint's files."""
RAW_WEIGHT = "raw_weight/"
"""The same of the weights that training continues from, where WEIGHT has averages (train.ema)."""

_PART = re.compile(r"part-[0-9]{5,}\.safetensors")

log = logging.getLogger(__name__)


class WeightShape(NamedTuple):
    """What a checkpoint says about one of its weights."""

    name: str
    shape: tuple[int, ...]
    is_trained: bool
    """Whether the optimizer has state for it."""


def is_finite(tensor: torch.Tensor) -> bool:
    """Return whether all values are finite; whole numbers always are."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _parts(path: Path) -> list[Path]:
    """Return the checkpoint's files of tensors, verified.

    Raises:
        ValueError: a file is missing, extra, or differs from when it was written.
    """
    state = read_state(path)
    # A user's copy such as part-00000.safetensors.bak is neither a part nor an error.
    part_files = sorted(file for file in path.glob("part-*") if _PART.fullmatch(file.name))
    if not state.parts:
        _note_missing_checksums(path)
        if not part_files:
            raise ValueError(f"{path} has no part-00000.safetensors. {remedy_of(path)}.")
        return part_files
    missing = sorted(state.parts.keys() - {file.name for file in part_files})
    if missing:
        raise ValueError(f"{path / missing[0]} is missing. {remedy_of(path)}.")
    for file in part_files:
        if file.name not in state.parts:
            raise ValueError(
                f"{file} is not a part of this checkpoint, which has {len(state.parts)}. "
                f"{remedy_of(path)}."
            )
    # All parts are verified before any is read: damage in the last one leaves no half-loaded model.
    for file in part_files:
        _verify(file, state.parts[file.name], path)
    return part_files


@functools.cache  # one warning per checkpoint, though its parts are read several times
def _note_missing_checksums(path: Path) -> None:
    log.warning(
        "%s has no checksums: an earlier mlrec wrote it. Damage to its tensors may go unnoticed",
        path,
    )


def _verify(file: Path, part: Part, path: Path) -> None:
    status = file.stat()
    # The size comes first: it finds a file that was cut off without hashing gigabytes.
    if status.st_size != part.size:
        raise ValueError(
            f"{file} is damaged: it has {status.st_size:,} bytes of {part.size:,}. "
            f"{remedy_of(path)}."
        )
    if _sha256(file, status.st_size, status.st_mtime_ns, status.st_ino) != part.sha256:
        raise ValueError(
            f"{file} is damaged: its content does not have the SHA-256 of when it was written. "
            f"{remedy_of(path)}."
        )


@functools.lru_cache(maxsize=1024)
def _sha256(file: Path, size: int, changed_ns: int, inode: int) -> str:
    """Return the SHA-256 of a file, computed once for each version of it."""
    # Weights and both moments are read from the same parts. Size, time and inode are only keys
    # of the cache: a file that was replaced is hashed again.
    del size, changed_ns, inode
    return storage.sha256_of(str(file))


def read_tensors(path: Path, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the checkpoint's tensors whose names start with `prefix`, one at a time.

    Yields:
        name without the prefix, and tensor.

    Raises:
        ValueError: a part is damaged, or a tensor is not finite.
    """
    part_of_name: dict[str, Path] = {}
    for part in _parts(path):
        with _open_part(part, path) as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is not a mapping
                if not name.startswith(prefix):
                    continue
                # Without checksums, parts of two saves could lie in one folder unnoticed.
                if name in part_of_name:
                    raise ValueError(
                        f"{part} holds {name}, which {part_of_name[name].name} holds too. "
                        f"{remedy_of(path)}."
                    )
                part_of_name[name] = part
                tensor = file.get_tensor(name)
                # save refuses such values: only a damaged file without a checksum has them.
                if not is_finite(tensor):
                    raise ValueError(f"{part} is damaged: {name} is not finite. {remedy_of(path)}.")
                yield name.removeprefix(prefix), tensor


def _open_part(part: Path, path: Path) -> safe_open:
    try:
        return safe_open(part, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{part} is damaged ({brief(error)}). {remedy_of(path)}.") from error


def read_moments(
    path: Path, moment: str, shapes: Mapping[str, Sequence[int]], force: bool
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and value of one of Adam's moments for each trained parameter.

    Args:
        moment: exp_avg or exp_avg_sq.
        shapes: of the trained parameters, by name.
        force: skip moments of parameters that are not trained now, and accept missing ones of
            parameters that were not trained then. Those start from zero.

    Raises:
        ValueError: a moment is missing or left over, has another shape, or has negative squares.
    """
    missing = set(shapes)
    for name, value in read_tensors(path, f"{moment}/"):
        if name in shapes:
            _check_moment(path, moment, name, value, shapes[name])
            missing.discard(name)
            yield name, value
        elif not force:
            raise ValueError(
                f"{path} has {moment} of {name}, which is not trained now. "
                "Set resume.force=true to leave it out."
            )
    # In a generator, only a caller that reads to the end gets here.
    if missing and not force:
        raise ValueError(
            f"{path} lacks {moment} of {min(missing)}. Set resume.force=true to start it from zero."
        )


def _check_moment(
    path: Path, moment: str, name: str, value: torch.Tensor, shape: Sequence[int]
) -> None:
    if tuple(value.shape) != tuple(shape) or not value.is_floating_point():
        raise ValueError(
            f"{path} is of another model: {moment} of {name} is {value.dtype} "
            f"{list(value.shape)}, not {list(shape)}. {remedy_of(path)}."
        )
    # Adam takes the root of the second moment: a negative one would turn the weight into NaN.
    if moment.endswith("_sq") and value.numel() and float(value.min()) < 0:
        raise ValueError(f"{path} is damaged: {moment} of {name} is negative. {remedy_of(path)}.")


def read_shapes(path: Path) -> Iterator[WeightShape]:
    """Yield the shapes of a checkpoint's weights, sorted by name, without reading a tensor."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part in _parts(path):
        with _open_part(part, path) as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is not a mapping
                shapes[name] = tuple(file.get_slice(name).get_shape())
    names = [name.removeprefix(WEIGHT) for name in shapes if name.startswith(WEIGHT)]
    for name in sorted(names):
        is_trained = f"exp_avg/{name}" in shapes
        yield WeightShape(name, shapes[WEIGHT + name], is_trained)
