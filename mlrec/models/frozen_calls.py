"""Calls of an encoder's frozen modules, recorded and described for any number of items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Leaf:
    """A tensor among a module's outputs: [n * rows, *shape] for n items."""

    rows: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def blank(self, count: int, like: torch.Tensor) -> torch.Tensor:
        """Return zeros of the output's shape for `count` items, which take no memory."""
        # in a bf16 run the recorded float32 stands for the dtype of training
        dtype = like.dtype if self.dtype.is_floating_point else self.dtype
        return like.new_zeros((), dtype=dtype).expand(count * self.rows, *self.shape)


class RecordedCall(NamedTuple):
    """A frozen module's call in a forward of the encoder."""

    module: nn.Module
    output: Any


@dataclass(frozen=True)
class FrozenCall:
    """A frozen module's call, for any number of items."""

    module: nn.Module
    output: Any
    """The structure of the module's output, with a Leaf in place of each tensor."""
    per_item: bool
    """False for an output that does not depend on the items, such as a table of relative positions.
    Such a module runs again when the encoder resumes."""

    @property
    def leaves(self) -> list[Leaf]:
        """Return the leaves of the output, in order."""
        return [leaf for leaf in pytree.tree_leaves(self.output) if isinstance(leaf, Leaf)]

    def output_of(self, tensors: Sequence[torch.Tensor]) -> Any:
        """Return the output with `tensors` in place of its leaves."""
        remaining = iter(tensors)
        return pytree.tree_map_only(Leaf, lambda leaf: next(remaining), self.output)

    def blank_output(self, count: int, like: torch.Tensor) -> Any:
        """Return the output for `count` items with zeros in place of its leaves."""
        return self.output_of([leaf.blank(count, like) for leaf in self.leaves])


class FrozenPart:
    """The frozen modules that an encoder calls before its first trained module."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        # A stage that is trained in part, as by adapters, is not cut: the residual connections
        # around its frozen layers need more than their output.
        trained_stages = list(_trained_parts_of_stages(encoder))
        # outermost modules only: what is inside them needs no record
        self.modules = list(_frozen_modules(encoder, trained_stages))
        self._trained_modules = list(trained_stages)
        # modules that hold trained parameters themselves; their parents may begin with frozen ones
        for module in encoder.modules():
            if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
                self._trained_modules.append(module)

    def record(self, media: torch.Tensor, only: int | None = None) -> list[RecordedCall]:
        """Run the encoder up to its first trained module and return the frozen modules' calls.

        Args:
            only: index of the one call to return; the other outputs are freed at once. None for
                all.
        """
        calls: list[RecordedCall] = []
        num_calls = 0

        def record_call(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal num_calls
            if only in (None, num_calls):
                calls.append(RecordedCall(module, output))
            num_calls += 1

        handles = [module.register_forward_hook(record_call) for module in self.modules]
        for module in self._trained_modules:
            # before DeepSpeed's own hooks, which would fetch the trained module's parameters
            handles.append(module.register_forward_pre_hook(_stop, prepend=True))
        try:
            self.encoder(media)
        except _TrainedModuleReached:
            pass
        finally:
            # the encoder's next forward is an ordinary one
            for handle in handles:
                handle.remove()
        return calls


def generalized(of_two: RecordedCall, of_one: RecordedCall) -> FrozenCall:
    """Return a module's call for any number of items, from its calls for two items and for one.

    Tensors that grow with the number of items belong to the items.

    Raises:
        ValueError: only some of the output's tensors do.
    """
    grows = []
    for two, one in zip(tensors_of(of_two.output), tensors_of(of_one.output), strict=True):
        doubled = two.ndim > 0 and len(two) == 2 * len(one)
        grows.append(doubled and two.shape[1:] == one.shape[1:])
    # an output that mixes both cannot be cached as a whole, nor computed again as a whole
    if any(grows) and not all(grows):
        raise ValueError(
            f"a {type(of_one.module).__name__} among them returns tensors of the items "
            "together with others"
        )

    def leaf_of(one: torch.Tensor) -> Leaf:
        return Leaf(len(one) if one.ndim else 0, tuple(one.shape[1:]), one.dtype)

    output = pytree.tree_map_only(torch.Tensor, leaf_of, of_one.output)
    return FrozenCall(of_one.module, output, per_item=any(grows))


def tensors_of(output: Any) -> list[torch.Tensor]:
    """Return the tensors in a module's output, in order."""
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def called_parts(stage: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules of a stage that have a forward of their own."""
    if not isinstance(stage, nn.ModuleList):
        yield stage
        return
    # a list of modules only holds them; its parts are called one by one
    for part in stage:
        yield from called_parts(part)


def _trained_parts_of_stages(encoder: Any) -> Iterator[nn.Module]:
    """Yield the parts of stages that have trained parameters."""
    for stage in encoder.stages():
        for part in called_parts(stage):
            if _is_trained(part):
                yield part


def _frozen_modules(module: nn.Module, uncut: Sequence[nn.Module]) -> Iterator[nn.Module]:
    """Yield the outermost modules without trained parameters, with or without frozen ones.

    Args:
        uncut: modules of which no part is yielded.
    """
    if not _is_trained(module):
        yield module
        return
    if any(module is whole for whole in uncut):
        return
    for child in module.children():
        yield from _frozen_modules(child, uncut)


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


class _TrainedModuleReached(Exception):  # noqa: N818 - not an error
    """Signal that the first trained module is about to run."""


def _stop(module: nn.Module, inputs: Any) -> None:
    raise _TrainedModuleReached
