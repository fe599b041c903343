"""A large table of ids of which each rank holds every W-th row, outside DeepSpeed.

Row i belongs to rank i % W, so all ranks hold equally many rows and fetch about equally many in a
step. Ownership of rows is fixed, while the rank that encodes an item changes from step to step.
A step therefore begins with `fetch`, which gives all ranks the rows of all its items. Its backward
pass sums the gradient of each row at the rank that holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mlrec.runtime.distributed import World, exchange, gather, to_device


@dataclass(frozen=True)
class FetchedRows:
    """The rows of a step's items."""

    held: torch.Tensor
    """int64: places in `ShardedTable.rows` of the rows that this rank holds, all distinct."""
    own: torch.Tensor
    """The values of these rows, fp32. It gets the gradient of the rows."""
    items_U: torch.Tensor
    """int64: the step's items, ascending."""
    places_U: torch.Tensor
    """int64: place of each item in `vectors`."""
    vectors: torch.Tensor
    """The rows of all U items, in the order of the ranks that hold them, without gradient."""
    gradient: torch.Tensor
    """Gradient of `vectors`, fp32, to which the backward pass of each chunk adds."""
    anchor: torch.Tensor
    """Number that every chunk's vectors depend on, so that its backward pass comes last."""


class _Anchor(torch.autograd.Function):
    """From vectors to a number, and back to a gradient that others have added up."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.gradient = gradient
        ctx.dtype = vectors.dtype
        return vectors.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.gradient.to(ctx.dtype), None


class _Lookup(torch.autograd.Function):
    """Rows at some places, whose gradient is added to that of all rows in place.

    torch's own lookup would return a gradient of all U rows for each chunk.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchor: torch.Tensor,
        vectors: torch.Tensor,
        gradient: torch.Tensor,
        places_n: torch.Tensor,
    ) -> torch.Tensor:
        ctx.gradient = gradient
        ctx.places_n = places_n
        return vectors.index_select(0, places_n)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient_nD,) = gradients
        ctx.gradient.index_add_(0, ctx.places_n, gradient_nD.to(ctx.gradient.dtype))
        return gradient_nD.new_zeros(()), None, None, None


class ShardedTable(nn.Module):
    """The rows of an id table that this rank holds.

    They are neither parameter nor buffer: DeepSpeed would average a gradient of the whole table.
    """

    def __init__(
        self, weight: torch.Tensor, world: World, dtype: torch.dtype, device: torch.device
    ) -> None:
        """
        Args:
            weight: the whole table, of which this rank copies its rows.
            dtype: of the vectors; the rows are fp32.
            device: of the rows.
        """
        super().__init__()
        self.shape = tuple(weight.shape)
        self.dtype = dtype
        self.world = world
        self.rows = self.own_part(weight.detach()).to(device, torch.float32, copy=True)
        self.fetched: FetchedRows | None = None
        """Rows of the current step; None between steps."""
        self.whole: torch.Tensor | None = None
        """The whole table while it is evaluated; None in training."""
        self.before_read: Callable[[torch.Tensor], None] | None = None
        """Function that brings the rows at these places up to date."""

    def extra_repr(self) -> str:
        return f"{len(self.rows)} of {self.shape[0]} rows of width {self.shape[1]}"

    def own_part(self, whole: torch.Tensor) -> torch.Tensor:
        """Return the part of a whole table that this rank holds, as a view."""
        return whole[self.world.rank :: self.world.size]

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """Return the whole table of the ranks' parts, on the device of the run; collective."""
        num_ranks = self.world.size
        parts = own.to(self.world.device)
        if num_ranks == 1:
            return parts
        num_rows = self.shape[0]
        held_W = [len(range(rank, num_rows, num_ranks)) for rank in range(num_ranks)]
        by_rank = gather(parts, held_W)
        whole = torch.empty_like(by_rank)
        for rank, part in enumerate(torch.split(by_rank, held_W)):
            whole[rank::num_ranks] = part
        return whole

    def fetch(self, items_U: torch.Tensor) -> None:
        """Fetch the rows of a step's items from the ranks that hold them; collective.

        Args:
            items_U: ascending, in host memory.
        """
        if self.whole is not None:
            return
        num_ranks = self.world.size
        rank = self.world.rank
        device = self.world.device
        holders_U = items_U % num_ranks
        order_U = torch.argsort(holders_U, stable=True)
        held_W = tuple(torch.bincount(holders_U, minlength=num_ranks).tolist())
        start = sum(held_W[:rank])
        held_items = items_U[order_U[start : start + held_W[rank]]]
        held = to_device(held_items // num_ranks, self.rows.device)
        if self.before_read is not None:
            self.before_read(held)
        own = self.rows.index_select(0, held).to(device).requires_grad_()
        vectors = exchange(own.to(self.dtype), held_W, rank)
        gradient = torch.zeros_like(vectors, dtype=torch.float32)
        self.fetched = FetchedRows(
            held=held,
            own=own,
            items_U=to_device(items_U, device),
            places_U=to_device(torch.argsort(order_U), device),
            vectors=vectors.detach(),
            gradient=gradient,
            anchor=_Anchor.apply(vectors, gradient),  # type: ignore[no-untyped-call]
        )

    def release(self) -> None:
        """Forget the rows of the step, at its end."""
        self.fetched = None

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Return the vectors of items [n] of the current step, or of any items in an evaluation."""
        if self.whole is not None:
            return functional.embedding(items, self.whole).to(self.dtype)
        assert self.fetched is not None, "no rows were fetched for this step"
        fetched = self.fetched
        # The blank item of an empty chunk is none of the step's items. Its vector is cut off.
        places = torch.searchsorted(fetched.items_U, items).clamp(max=len(fetched.items_U) - 1)
        places_n = fetched.places_U[places]
        vectors: torch.Tensor = _Lookup.apply(  # type: ignore[no-untyped-call]
            fetched.anchor, fetched.vectors, fetched.gradient, places_n
        )
        return vectors
