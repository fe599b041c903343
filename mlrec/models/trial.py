"""Check, when an encoder is built, that it can encode what it asks the stream for."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder
from mlrec.models.random_media import random_media
from mlrec.runtime.printable import brief

_META_LIMIT_WORD = "meta"
"""Word in torch's messages about operations that tensors without values do not support."""


def check_runs(encoder: Encoder, name: str) -> None:
    """Run the encoder once on tensors without values, which takes neither memory nor arithmetic.

    Encoders of ids and features have no network to try.

    Raises:
        ValueError: it cannot encode inputs of its own spec, for example frames of another size than
            its positions, or its vectors are not of its width.
    """
    if encoder.spec.modality in (Modality.ID, Modality.FEATURES):
        return
    try:
        double = without_values(encoder).eval()
        with torch.no_grad():
            vectors = double(_input(encoder.spec))
    except NotImplementedError:
        return  # an operation that torch has for real tensors only
    except (ValueError, RuntimeError) as error:
        if needs_values(error):
            return  # not a fault of the encoder's input
        reason = brief(error)
        raise ValueError(
            f"{name} cannot encode {_in_words(encoder.spec)} ({reason}). "
            f"Set item.options.{name}.frames, .size or .length to what the model was made for"
        ) from error
    _check_vectors(vectors, encoder, name)


def _check_vectors(vectors: Any, encoder: Encoder, name: str) -> None:
    """Check what forward returned for one item.

    Raises:
        ValueError: it is no tensor, or of another shape than the encoder says.
    """
    expected = [1, *encoder.vector_shape]
    returned = f"a {type(vectors).__name__}"
    if isinstance(vectors, torch.Tensor):
        if list(vectors.shape) == expected:
            return
        returned = str(list(vectors.shape))
    forward = f"{type(encoder).__module__}.{type(encoder).__qualname__}.forward"
    of_rows = f" and rows has {len(encoder.rows)} names" if encoder.rows else ""
    raise ValueError(
        f"{name} returns {returned} for one item, expected vectors of {expected}, because its "
        f"width is {encoder.width}{of_rows}. Correct {forward}, or the width in the encoder's row"
    )


def needs_values(error: Exception) -> bool:
    """Return whether a trial failed only because its tensors have no values."""
    return isinstance(error, NotImplementedError) or _META_LIMIT_WORD in brief(error)


def trial_forward(module: nn.Module, spec: InputSpec, count: int) -> Any:
    """Run a copy of a module on `count` items without values, and return its output.

    Where that is not possible, it runs the module itself on random items.

    Args:
        module: an encoder, or a module with an encoder's input.
    """
    media = random_media(spec, count)
    try:
        return without_values(module)(media.to("meta"))
    except (NotImplementedError, RuntimeError):
        pass  # an operation that torch has for real tensors only
    return module(media.to(next(module.parameters()).device))


def called_modules(encoder: Encoder) -> set[nn.Module]:
    """Return the modules that the encoder's forward calls, as a trial forward shows."""
    called = set()
    handles = []
    for module in encoder.modules():
        # the trial's copy of the module has the hook too, and the hook knows the original
        def record(copied: nn.Module, inputs: Any, original: nn.Module = module) -> None:
            called.add(original)

        handles.append(module.register_forward_pre_hook(record))
    is_training = encoder.training
    # batch norms would count these items
    encoder.eval()
    try:
        with torch.no_grad():
            trial_forward(encoder, encoder.spec, count=1)
    finally:
        for handle in handles:
            handle.remove()
        encoder.train(is_training)
    return called


def without_values(module: nn.Module) -> nn.Module:
    """Return a copy of a module with tensors on the meta device, which take no memory."""
    stand_ins: dict[int, object] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        # deepcopy takes these as copies that it has already made
        stand_ins[id(tensor)] = _empty_like(tensor)
    return copy.deepcopy(module, stand_ins)


def _empty_like(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _input(spec: InputSpec) -> torch.Tensor:
    if spec.modality is Modality.TITLE:
        return torch.zeros(1, 2, spec.length, dtype=torch.int64, device="meta")
    if spec.modality is Modality.AUDIO:
        return torch.zeros(1, spec.length, dtype=torch.int16, device="meta")
    frames = (spec.frames,) if spec.modality is Modality.VIDEO else ()
    return torch.zeros(1, *frames, spec.size, spec.size, 3, dtype=torch.uint8, device="meta")


def _in_words(spec: InputSpec) -> str:
    if spec.modality is Modality.TITLE:
        return f"titles of {spec.length:,} tokens"
    if spec.modality is Modality.AUDIO:
        return f"sounds of {spec.length:,} samples"
    frames = f"{spec.frames} frames of " if spec.modality is Modality.VIDEO else "images of "
    return f"{frames}{spec.size} x {spec.size}"
