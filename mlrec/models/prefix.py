"""Frozen prefixes: what the frozen stages that an encoder begins with make of an item is the same in the whole run.

An item goes through them once; later steps run the trained stages only, on what was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from mlrec.data.schema import BYTE_TOKENS, InputSpec, Modality

TOLERANCE = 1e-4
"""Of what two ways to it give, as a share of the largest value: other numbers of items in a matrix product round differently."""


class _Reached(Exception):  # noqa: N818 - no error: the end of a prefix
    """The first trained module is about to run."""


@dataclass(frozen=True)
class _Leaf:
    """A tensor among a module's outputs: [n * rows, ...] for n items."""

    rows: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def standing_in(self, count: int, like: torch.Tensor) -> torch.Tensor:
        """Zeros of the output's shape for `count` items, in no memory."""
        dtype = like.dtype if self.dtype.is_floating_point else self.dtype
        return like.new_zeros((), dtype=dtype).expand(count * self.rows, *self.shape)


@dataclass(frozen=True)
class _Call:
    """A frozen module's run in a forward, and its outputs: a tree with a _Leaf in the place of each tensor."""

    module: nn.Module
    outputs: Any
    per_item: bool
    """False for what no item has a part in, such as a table of relative positions: it is run again."""


class Prefix:
    """The two halves of an encoder: the frozen modules up to the first trained one, and all that follows.

    Both halves run the encoder's own forward. The first stops it at the first trained module; in the second the frozen modules
    before that return what was kept without running. So no encoder states how it is cut, and which ones can be is tried out: on
    two items of random media, when it is made.
    """

    def __init__(self, encoder: Any, set_training: Callable[[bool], object]) -> None:
        """
        Args:
            encoder: an Encoder.
            set_training: puts the encoder into training mode (True), as the item tower has it, or out of it.

        Raises:
            ValueError: the halves do not give what the whole gives; the message has the reason.
        """
        self.encoder = encoder
        self._parts = list(_frozen_parts(encoder))
        self._rereads = encoder.rereads and self._parts != [encoder]
        self._trained = [
            m
            for m in encoder.modules()
            if any(p.requires_grad for p in m.parameters(recurse=False))
        ]
        media = random_media(encoder.spec, count=2).to(next(encoder.parameters()).device)
        self.input_shape, self.input_dtype = tuple(media.shape[1:]), media.dtype
        # cuDNN would convolve in TF32, by other ways for another number of items
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            set_training(False)
            two = self._walk(media)
            set_training(True)
            one = self._walk(media[1:])
            self._calls = [
                _call(module, of_two, of_one)
                for (module, of_two), (_, of_one) in zip(two, one, strict=True)
            ]
            places = [place for place, call in enumerate(self._calls) if call.per_item]
            self.empty = not any(
                next(self._calls[place].module.parameters(), None) is not None for place in places
            )
            """Whether the encoder begins with a trained stage."""
            if self.empty:
                return
            self._last = places[-1]
            kept = _tensors(one[self._last][1])
            for found, expected in zip(kept, _tensors(two[self._last][1]), strict=True):
                if not _near(found, expected[len(found) :]):
                    raise ValueError(
                        "what they make of an item depends on chance or on the items beside it"
                    )
            set_training(False)
            self.leaves: list[_Leaf] = [
                leaf
                for leaf in pytree.tree_leaves(self._calls[self._last].outputs)
                if _is_leaf(leaf)
            ]
            if self._rereads:
                self.leaves.append(_Leaf(1, self.input_shape, self.input_dtype))
            expected = encoder(media[1:])
            try:
                found = self.resume(self.run(media[1:]))
            except RuntimeError as error:
                raise ValueError(
                    f"the stages behind them do not run alone: {str(error).splitlines()[0]}"
                ) from error
            if not _near(found, expected):
                raise ValueError("the stages behind them use more than the last one's output")

    @torch.no_grad()
    def run(self, media: torch.Tensor) -> list[torch.Tensor]:
        """What is to be kept of n items: tensors [n, rows, ...] in the order of `leaves`."""
        outputs = _tensors(self._walk(media, self._last)[0][1])
        kept = [tensor.view(len(media), -1, *tensor.shape[1:]) for tensor in outputs]
        return [*kept, media[:, None]] if self._rereads else kept

    def resume(self, kept: Sequence[torch.Tensor]) -> torch.Tensor:
        """The encoder's vectors [n, width] of n items out of what `run` gave, with gradient to the trained stages."""
        count = len(kept[0])
        tensors = [tensor.flatten(0, 1) for tensor in kept]
        blank = kept[0].new_zeros((), dtype=self.input_dtype).expand(count, *self.input_shape)
        media = tensors.pop() if self._rereads else blank
        calls = iter(enumerate(self._calls))

        def replaced(forward: Callable[..., Any]) -> Callable[..., Any]:
            def answer(*inputs: Any, **options: Any) -> Any:
                place, call = next(calls, (0, None))
                if (
                    call is None or not call.per_item
                ):  # behind the prefix, or the same for all items
                    return forward(*inputs, **options)
                given = iter(tensors)
                return pytree.tree_map_only(
                    _Leaf,
                    lambda leaf: (
                        next(given) if place == self._last else leaf.standing_in(count, tensors[0])
                    ),
                    call.outputs,
                )

            return answer

        with ExitStack() as stack:
            for module in {id(call.module): call.module for call in self._calls}.values():
                stack.enter_context(_forward_of(module, replaced(module.forward)))
            vectors: torch.Tensor = self.encoder(media)
        return vectors

    def _walk(self, media: torch.Tensor, only: int | None = None) -> list[tuple[nn.Module, Any]]:
        """The frozen modules that run before the first trained one, with their outputs; of all, or of the `only` one wanted."""
        found: list[tuple[nn.Module, Any]] = []
        seen = 0

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal seen
            if only in (None, seen):
                found.append((module, output))
            seen += 1

        def stop(module: nn.Module, inputs: Any) -> None:
            raise _Reached

        handles = [part.register_forward_hook(keep) for part in self._parts]
        # before DeepSpeed's own hooks, which would fetch the trained module's parameters
        handles += [
            module.register_forward_pre_hook(stop, prepend=True) for module in self._trained
        ]
        try:
            self.encoder(media)
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return found


def random_media(spec: InputSpec, count: int) -> torch.Tensor:
    """Media of `count` items as the stream would deliver them: made up, and always the same."""
    generator = torch.Generator().manual_seed(0)

    def integers(low: int, high: int, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randint(low, high, (count, *shape), generator=generator, dtype=dtype)

    if (
        spec.modality is Modality.TITLE
    ):  # each with one token less than the one before: a mask that counts
        mask = (torch.arange(spec.length) < spec.length - 1 - torch.arange(count)[:, None]).long()
        return torch.stack(
            [integers(3, BYTE_TOKENS, spec.length, dtype=torch.int64) * mask, mask], dim=1
        )
    pixels = (spec.size, spec.size, 3)
    shapes = {
        Modality.VIDEO: (spec.frames, *pixels),
        Modality.COVER: pixels,
        Modality.AUDIO: (spec.length,),
    }
    if spec.modality is Modality.AUDIO:
        return integers(-999, 999, *shapes[spec.modality], dtype=torch.int16)
    return integers(0, 256, *shapes[spec.modality], dtype=torch.uint8)


def _frozen_parts(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost parts of `module` of which nothing is trained, with parameters or without."""
    if not any(parameter.requires_grad for parameter in module.parameters()):
        yield module
        return
    for child in module.children():
        yield from _frozen_parts(child)


def _call(module: nn.Module, of_two: Any, of_one: Any) -> _Call:
    """What a module gave for two items and for one: what grows with the number of items is the items'.

    Raises:
        ValueError: it gave both.
    """
    tensors = list(zip(_tensors(of_two), _tensors(of_one), strict=True))
    grows = [
        two.ndim > 0 and len(two) == 2 * len(one) and two.shape[1:] == one.shape[1:]
        for two, one in tensors
    ]
    if any(grows) and not all(grows):
        raise ValueError(
            f"a {type(module).__name__} among them gives tensors of the items and others at once"
        )

    def leaf_of(one: torch.Tensor) -> _Leaf:
        return _Leaf(len(one) if one.ndim else 0, tuple(one.shape[1:]), one.dtype)

    return _Call(module, pytree.tree_map_only(torch.Tensor, leaf_of, of_one), per_item=any(grows))


def _tensors(outputs: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def _near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    apart, largest = (found.float() - expected.float()).abs().max(), expected.float().abs().max()
    return bool(apart <= TOLERANCE * largest)


def _is_leaf(leaf: Any) -> bool:
    return isinstance(leaf, _Leaf)


@contextmanager
def _forward_of(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within it `module` runs `forward`; its hooks, DeepSpeed's among them, stay."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
