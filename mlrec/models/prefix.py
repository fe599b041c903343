"""Frozen prefixes: the frozen stages at the start of an encoder, cut off from its trained rest.

The prefix computes the same activations of an item in every step of a run. So they are computed
once and cached, and later steps run the trained rest on them.

Both halves run the encoder's own forward. The first half stops it at the first trained module. In
the second half the frozen modules before that one return cached activations without running. So no
encoder has to say where it can be cut: `find_prefix` tries it on two random items.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from mlrec.data.schema import Modality
from mlrec.models.frozen_calls import (
    FrozenCall,
    FrozenPart,
    Leaf,
    RecordedCall,
    generalized,
    tensors_of,
)
from mlrec.models.random_media import random_media

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest accepted difference of two ways to the same activations, as a share of the largest value.
Matrix products of other numbers of items round differently."""


class Prefix:
    """An encoder in two halves: `run` for the frozen prefix, `resume` for the rest."""

    def __init__(self, part: FrozenPart, calls: Sequence[FrozenCall], media: torch.Tensor) -> None:
        """
        Args:
            calls: all calls of the frozen modules, at least one of them per item.
            media: of any number of items, for their shape and dtype.
        """
        self.encoder = part.encoder
        self._part = part
        self._calls = list(calls)
        # trained stages get what the last frozen module returns, and no earlier output
        self._last = max(index for index, call in enumerate(calls) if call.per_item)
        self._input_shape = tuple(media.shape[1:])
        self._input_dtype = media.dtype
        # an encoder that is frozen as a whole reads nothing after its prefix
        self._rereads_media = self.encoder.rereads and part.modules != [self.encoder]
        self.leaves = self._calls[self._last].leaves
        """Tensors to cache of an item."""
        if self._rereads_media:
            self.leaves.append(Leaf(1, self._input_shape, self._input_dtype))

    @torch.no_grad()
    def run(self, media: torch.Tensor) -> list[torch.Tensor]:
        """Return the activations of n items: tensors [n, rows, ...] in the order of `leaves`."""
        (call,) = self._part.record(media, only=self._last)
        activations = []
        for tensor in tensors_of(call.output):
            activations.append(tensor.view(len(media), -1, *tensor.shape[1:]))
        if self._rereads_media:
            activations.append(media[:, None])
        return activations

    def resume(self, activations: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the encoder's vectors [n, width] from the activations that `run` returned.

        The trained stages get a gradient.
        """
        count = len(activations[0])
        tensors = [tensor.flatten(0, 1) for tensor in activations]
        if self._rereads_media:
            media = tensors.pop()
        else:
            # the encoder's forward looks at the media's shape, but their values go into the prefix
            # only
            media = tensors[0].new_zeros((), dtype=self._input_dtype)
            media = media.expand(count, *self._input_shape)
        # a new replay for each forward, for it counts the calls
        replay = _Replay(self._calls, self._last, tensors, count)
        with ExitStack() as stack:
            for module in dict.fromkeys(call.module for call in self._calls):
                stack.enter_context(_forward_replaced(module, replay.wrapped(module.forward)))
            # outside no_grad: autograd records the trained stages, which run as usual
            vectors: torch.Tensor = self.encoder(media)
        return vectors


class _Replay:
    """Answers for the frozen modules' forwards, in the order of their recorded calls."""

    def __init__(
        self, calls: Sequence[FrozenCall], last: int, tensors: Sequence[torch.Tensor], count: int
    ) -> None:
        self._last_call = calls[last]
        self._remaining_calls = iter(calls)
        self._tensors = tensors
        self._count = count

    def wrapped(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return a forward that gives cached activations where a recorded call had some."""

        def answer(*inputs: Any, **options: Any) -> Any:
            call = next(self._remaining_calls, None)
            # None: the same frozen module is called once more after the prefix
            if call is None or not call.per_item:
                return forward(*inputs, **options)
            if call is self._last_call:
                return call.output_of(self._tensors)
            # only the shape matters: no later stage reads an earlier output
            return call.blank_output(self._count, like=self._tensors[0])

        return answer


def find_prefix(encoder: Any, set_training: Callable[[bool], object]) -> Prefix | None:
    """Return the encoder's frozen prefix; None if the encoder begins with a trained stage.

    Args:
        encoder: an Encoder.
        set_training: puts the encoder into training mode (True), as in the item tower, or out of
            it.

    Raises:
        ValueError: the two halves do not compute what the whole encoder computes. The message is
            the reason.
    """
    part = FrozenPart(encoder)
    device = next(encoder.parameters()).device
    media = random_media(encoder.spec, count=2).to(device)
    # In TF32, cuDNN would choose other convolution algorithms for other numbers of items.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        # Two items out of training mode and one of them in it: a prefix with dropout, or with
        # statistics over items, gives something else.
        set_training(False)
        calls_of_two = part.record(media)
        set_training(True)
        calls_of_one = part.record(media[1:])
        prefix = _prefix_of(part, calls_of_two, calls_of_one, media)
        if prefix is None:
            return None
        _check_repeatable(calls_of_two[prefix._last], calls_of_one[prefix._last])
        # in training mode dropout of the trained stages would make the two halves differ
        set_training(False)
        _check_resumes(prefix, media[1:])
    return prefix


def _prefix_of(
    part: FrozenPart,
    calls_of_two: Sequence[RecordedCall],
    calls_of_one: Sequence[RecordedCall],
    media: torch.Tensor,
) -> Prefix | None:
    """Return the prefix that calls for two items and for one show; None if none has parameters."""
    calls = []
    for of_two, of_one in zip(calls_of_two, calls_of_one, strict=True):
        calls.append(generalized(of_two, of_one))
    # frozen modules without parameters, such as a normalization of pixels, are not worth a cache
    if not any(call.per_item and _has_parameters(call.module) for call in calls):
        return None
    return Prefix(part, calls, media)


@torch.no_grad()
def leaves_of_prefix(encoder: Any, media: torch.Tensor) -> list[Leaf]:
    """Return the tensors of an item that a cache of the encoder's frozen prefix would hold.

    It looks at shapes alone, so the prefix may turn out to depend on chance.

    Args:
        encoder: an Encoder, on the meta device as well.
        media: of two items.
    """
    part = FrozenPart(encoder)
    try:
        prefix = _prefix_of(part, part.record(media), part.record(media[:1]), media)
    except (ValueError, NotImplementedError, RuntimeError):
        return []
    return [] if prefix is None else prefix.leaves


def find_prefixes(
    names: Sequence[str],
    encoders: Iterable[Any],
    set_training: Callable[[bool], object],
    device: torch.device,
) -> dict[int, Prefix]:
    """Return the frozen prefixes of an item tower's encoders, by the encoder's index.

    Encoders whose prefix cannot be cached are named in a warning. Encoders that are tried out are
    left on `device`, in any training mode.
    """
    prefixes = {}
    for index, (name, encoder) in enumerate(zip(names, encoders, strict=True)):
        all_trained = all(parameter.requires_grad for parameter in encoder.parameters())
        # reading an id costs nothing
        if all_trained or encoder.spec.modality is Modality.ID:
            continue
        try:
            prefix = find_prefix(encoder.to(device), set_training)
        except ValueError as error:
            log.warning(
                "cannot cache the activations of %s, and run its frozen stages in each step: %s",
                name,
                error,
            )
            continue
        if prefix is not None:
            prefixes[index] = prefix
    return prefixes


def _check_repeatable(of_two: RecordedCall, of_one: RecordedCall) -> None:
    """Check that the second of two items has the activations that it has alone.

    Raises:
        ValueError: it has others.
    """
    for one, two in zip(tensors_of(of_one.output), tensors_of(of_two.output), strict=True):
        if not _near(one, two[len(one) :]):
            raise ValueError("their output depends on chance or on the other items of the batch")


def _check_resumes(prefix: Prefix, media: torch.Tensor) -> None:
    """Check that both halves together compute what the whole encoder computes.

    Raises:
        ValueError: they do not, or the second half fails.
    """
    expected = prefix.encoder(media)
    try:
        vectors = prefix.resume(prefix.run(media))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the stages after them do not run alone: {reason}") from error
    if not _near(vectors, expected):
        raise ValueError("the stages after them use more than the last one's output")


def _near(values: torch.Tensor, expected: torch.Tensor) -> bool:
    difference = (values.float() - expected.float()).abs().max()
    return bool(difference <= TOLERANCE * expected.float().abs().max())


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


@contextmanager
def _forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let `module` run `forward` within the context; its hooks, such as DeepSpeed's, stay."""
    own_forward = vars(module).get("forward")  # set on some instances by DeepSpeed
    module.forward = forward
    try:
        yield
    finally:
        if own_forward is None:
            del module.forward
        else:
            module.forward = own_forward
