"""Files of pretrained weights: safetensors, sharded or whole, and torch's, of which no pickled object is executed."""

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
"""What Hugging Face calls the weights in a folder, in the order of preference; sharded, the names end in .index.json."""
_WRAPPERS = ("model_state", "state_dict", "model")
"""Keys that hold the tensors in PySlowFast's files, Lightning's, and many others'."""
_WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class _Index:
    """model.safetensors.index.json: the shard that each tensor is in."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore")

    weight_map: dict[str, str]

    def __post_init__(self) -> None:
        for shard in self.weight_map.values():
            if Path(shard).name != shard:
                raise ValueError(f"the shard {shard!r} is not the name of a file beside the index")


def read_folder(find: Callable[[str], Path | None]) -> dict[str, torch.Tensor]:
    """Return the tensors of a model in Hugging Face's layout.

    Args:
        find: a file's path by its name, None if there is no such file.

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
    shard_of = parse_json(
        index.read_bytes(), _Index, str(index), "Download the checkpoint again"
    ).weight_map
    tensors: dict[str, torch.Tensor] = {}
    shards = sorted(set(shard_of.values()))
    if missing := [shard for shard in shards if find(shard) is None]:
        raise ValueError(
            f"{len(missing)} of its {len(shards)} shards are missing: {', '.join(missing[:5])}"
        )
    for path in filter(None, map(find, shards)):
        tensors |= read_file(path, str(path))
    if lacking := sorted(set(shard_of) - set(tensors)):
        raise ValueError(
            f"its shards lack {len(lacking)} tensors of {index.name}: {', '.join(lacking[:5])}"
        )
    return tensors


def read_file(source: bytes | Path, name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of one file, on the CPU.

    Args:
        name: decides on the format by its ending.

    Raises:
        ValueError: an entry is not a tensor; the readers of damaged files raise other errors as well.
    """
    if name.endswith(".safetensors"):
        return (
            safetensors.torch.load_file(source)
            if isinstance(source, Path)
            else safetensors.torch.load(source)
        )
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    content: Any = torch.load(file, map_location="cpu", weights_only=True)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{name} holds a {type(content).__name__} where tensors by name are expected"
        )
    if strange := [key for key, value in content.items() if not isinstance(value, torch.Tensor)]:
        raise ValueError(f"{name}: the entry {str(strange[0])!r} is not a tensor")
    return {str(key): value for key, value in content.items()}


def check_values(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Check that every weight is a finite number in fp32.

    Args:
        expected: the model's own tensors; counters and positions are integers there too.

    Raises:
        ValueError: a tensor has NaN or infinite values, or is quantised; names it.
    """
    for name, tensor in tensors.items():
        counts = name not in expected or not expected[name].is_floating_point()
        if counts and tensor.dtype in (torch.int64, torch.int32, torch.bool):
            continue
        if tensor.dtype not in _WEIGHT_DTYPES:
            raise ValueError(
                f"its tensor {name} is {tensor.dtype}; mlrec reads float32, float16, bfloat16 and float64"
            )
        finite = tensor.to(torch.float32).isfinite()
        if not finite.all():
            raise ValueError(
                f"its tensor {name} has {int((~finite).sum()):,} values that are NaN or infinite"
            )
