"""Published weights: of Hugging Face models by name, of any model from a folder or file on any storage."""

from __future__ import annotations

import functools
import io
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from mlrec import storage

WEIGHTS = (".safetensors", ".pyth", ".pth", ".pt", ".bin")
"""Endings of files that hold weights."""
_copies: list[tempfile.TemporaryDirectory[str]] = []
"""Local copies of remote folders; they go with the process."""


@functools.cache
def local_folder(checkpoint: str) -> str:
    """`checkpoint` itself where it is a local path or a name at the hub, else a local copy of the folder at that URL.

    Raises:
        ValueError: there is no such folder.
    """
    if storage.is_local(checkpoint):
        return str(storage.local_path(checkpoint))
    files = [name for name in storage.list_files(checkpoint) if "/" not in name]
    if not files:
        raise ValueError(
            f"there is no checkpoint at {checkpoint}; give the URL of a folder that holds config.json and the weights"
        )
    copy = tempfile.TemporaryDirectory(prefix="mlrec-checkpoint-")
    _copies.append(copy)
    for name in files:
        (Path(copy.name) / name).write_bytes(storage.read_bytes(storage.join(checkpoint, name)))
    return copy.name


def load_pretrained(load: Callable[..., Any], checkpoint: str, encoder: str, **options: Any) -> Any:
    """What `load`, a from_pretrained of Hugging Face, makes of `checkpoint`.

    Raises:
        ValueError: it is not at hand or does not fit; the message says what to do about it.
    """
    try:
        return load(local_folder(checkpoint), **options)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the checkpoint {checkpoint!r} of {encoder} cannot be loaded ({reason}); on a machine with network run "
            f"`hf download {checkpoint} --local-dir FOLDER` and set item.options.{encoder}.checkpoint=FOLDER, "
            "or start from random weights with item.tuning=scratch"
        ) from error


def load_weights(model: nn.Module, checkpoint: str, encoder: str) -> None:
    """Loads the weights at `checkpoint`, a file or a folder with one, into `model`; every name and shape must fit.

    Raises:
        ValueError: they are not at hand or do not fit; the message says what to do about it.
    """
    remedy = (
        f"download it on a machine with network and set item.options.{encoder}.checkpoint=FILE, "
        "or start from random weights with item.tuning=scratch"
    )
    try:
        state = _read_weights(checkpoint)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"the checkpoint {checkpoint!r} of {encoder} cannot be read ({reason}); {remedy}") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the checkpoint {checkpoint!r} does not fit {encoder} with its frames, size and config ({reason}); {remedy}"
        ) from error


def _read_weights(checkpoint: str) -> dict[str, torch.Tensor]:
    url = checkpoint
    if not url.endswith(WEIGHTS):
        found = [name for name in storage.list_files(url) if "/" not in name and name.endswith(WEIGHTS)]
        if len(found) != 1:
            raise ValueError(
                f"a file ending in {', '.join(WEIGHTS)} is wanted there, or one in a folder; found {found or 'none'}"
            )
        url = storage.join(url, found[0])
    raw = storage.read_bytes(url)
    if url.endswith(".safetensors"):
        return safetensors.torch.load(raw)
    content: Any = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    for wrapper in ("model_state", "state_dict"):  # pytorchvideo's and PySlowFast's; many others'
        content = content.get(wrapper, content)
    return dict(content)
