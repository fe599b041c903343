"""Files of pretrained weights: safetensors, whole or sharded, and torch files.

No pickled code is executed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ConfigDict

from mlrec.storage.typed_json import parse_json

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
"""Hugging Face's names for a folder's weights, in order of preference. The index of sharded weights
has the same name with .index.json."""
_WRAPPERS = ("model_state", "state_dict", "model")
"""Keys of the tensors in files of PySlowFast, Lightning and many others."""
_WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class _Index:
    """The content of model.safetensors.index.json: the shard of each tensor."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore")

    weight_map: dict[str, str]

    def __post_init__(self) -> None:
        for shard in self.weight_map.values():
            if Path(shard).name != shard:
                # a path would let a checkpoint read files outside its folder
                raise ValueError(f"the shard {shard!r} is not the name of a file beside the index")


def read_folder(find: Callable[[str], Path | None]) -> dict[str, torch.Tensor]:
    """Return the tensors of a model in Hugging Face's layout.

    Args:
        find: returns a file's path by its name, or None if there is no such file.

    Raises:
        ValueError: there are no weights, a shard is missing, or a shard lacks a tensor.
    """
    for name in SINGLE_FILES:
        if path := find(name):
            return read_file(path, str(path))
        if index := find(f"{name}.index.json"):
            return _read_shards(index, find)
    raise ValueError(f"it has none of {', '.join(SINGLE_FILES)} and their .index.json")


def _read_shards(index: Path, find: Callable[[str], Path | None]) -> dict[str, torch.Tensor]:
    remedy = "Download the checkpoint again"
    shard_of = parse_json(index.read_bytes(), _Index, str(index), remedy).weight_map
    paths: list[Path] = []
    missing: list[str] = []
    # all are looked up before the first is read, which may take minutes
    for shard in sorted(set(shard_of.values())):
        path = find(shard)
        if path is None:
            missing.append(shard)
        else:
            paths.append(path)
    if missing:
        total = len(missing) + len(paths)
        raise ValueError(
            f"{len(missing)} of its {total} shards are missing: {', '.join(missing[:5])}"
        )
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        tensors |= read_file(path, str(path))
    absent = sorted(set(shard_of) - set(tensors))
    if absent:
        raise ValueError(
            f"its shards lack {len(absent)} tensors of {index.name}: {', '.join(absent[:5])}"
        )
    return tensors


def read_file(source: bytes | Path, name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of one file, on the CPU.

    Args:
        name: the file's name; its ending decides on the format.

    Raises:
        ValueError: an entry is not a tensor. Damaged files raise errors of other types as well.
    """
    if name.endswith(".safetensors"):
        if isinstance(source, Path):
            return safetensors.torch.load_file(source)
        return safetensors.torch.load(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    # weights_only: pickled code in a checkpoint is not executed
    content: Any = torch.load(file, map_location="cpu", weights_only=True)
    # each wrapper may be inside the one before it
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{name} holds a {type(content).__name__} where tensors by name are expected"
        )
    tensors: dict[str, torch.Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{name}: the entry {str(key)!r} is not a tensor")
        tensors[str(key)] = value
    return tensors


def check_values(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Check that every weight is a finite number in fp32.

    Args:
        expected: the model's own tensors, whose counters and positions are integers too.

    Raises:
        ValueError: a tensor is quantized or has NaN or infinite values; names it.
    """
    for name, tensor in tensors.items():
        # a tensor that the model lacks is named as such later, whatever its type
        may_be_integer = name not in expected or not expected[name].is_floating_point()
        if may_be_integer and tensor.dtype in (torch.int64, torch.int32, torch.bool):
            continue
        if tensor.dtype not in _WEIGHT_DTYPES:
            raise ValueError(
                f"its tensor {name} is {tensor.dtype}; mlrec reads float32, float16, bfloat16 and "
                "float64"
            )
        # as fp32, because a float64 beyond fp32's range would become infinite on loading
        finite = tensor.to(torch.float32).isfinite()
        if not finite.all():
            raise ValueError(
                f"its tensor {name} has {int((~finite).sum()):,} values that are NaN or infinite"
            )
