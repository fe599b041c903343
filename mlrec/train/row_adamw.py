"""AdamW over the rows of a sharded table, at a cost that follows the step's rows.

A row misses the updates in which it has no gradient, and catches up with them when it is read next:
by a step that needs it, by a checkpoint or by an evaluation.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from mlrec.models.encoders.sharded_table import FetchedRows, ShardedTable
from mlrec.train.missed_updates import MissedUpdates, catch_up_of
from mlrec.train.zero_state import AVERAGE, MOMENTS

WEIGHT = "weight"
"""Name of the weights among the tensors of RowAdamW. The others are MOMENTS and AVERAGE."""
BLOCK_ROWS = 1 << 11
"""Rows that catch up at a time when all do: their temporary tensors fit into a CPU's cache."""


class RowAdamW:
    """AdamW over the rows that this rank holds, equal to torch's over the whole table."""

    def __init__(
        self,
        table: ShardedTable,
        group: dict[str, Any],
        betas: tuple[float, float],
        eps: float,
        has_averages: bool,
    ) -> None:
        """
        Args:
            group: name, lr, peak_lr and weight_decay, as in a parameter group of torch.
            has_averages: whether moving averages of the rows are kept (train.ema).
        """
        self.table = table
        self.param_groups = [group]
        self.betas = betas
        self.eps = eps
        self.updates = 0
        # Row i of every tensor belongs to the same row of the table.
        self._tensors = {WEIGHT: table.rows}
        for moment in MOMENTS:
            self._tensors[moment] = torch.zeros_like(table.rows)
        if has_averages:
            self._tensors[AVERAGE] = table.rows.clone()
        self._missed = MissedUpdates(betas, eps)
        # The entry of each row in self._missed, which is that of its last update.
        self._last = torch.zeros(len(table.rows), dtype=torch.int32, device=table.rows.device)
        self._columns: torch.Tensor | None = None
        table.before_read = self.catch_up

    def restart(self, updates: int) -> None:
        """Continue after `updates` updates, with zero moments and averages of the weights."""
        self.updates = updates
        for moment in MOMENTS:
            self._tensors[moment].zero_()
        if AVERAGE in self._tensors:
            self._tensors[AVERAGE].copy_(self.table.rows)
        self._reset()

    def gather(self, name: str) -> torch.Tensor:
        """Return a tensor of the whole table: WEIGHT, a moment or AVERAGE; collective."""
        self.catch_up_all()
        return self.table.gather(self._tensors[name])

    def load(self, name: str, whole: torch.Tensor) -> None:
        """Set a tensor of this rank's rows from one of the whole table, after `restart`."""
        self._tensors[name].copy_(self.table.own_part(whole))

    def squared_norm(self) -> torch.Tensor:
        """Return the square of the norm of the rows' gradient on this rank, fp64."""
        return self._gradient().double().square().sum()

    @torch.no_grad()
    def step(self, factor: torch.Tensor | float) -> None:
        """Update the step's rows by their gradient times `factor`; the others miss this update."""
        held = self._fetched().held
        self.updates += 1
        group = self.param_groups[0]
        lr = group["lr"]
        decay = lr * group["weight_decay"]
        beta1, beta2 = self.betas
        correction1 = 1 - beta1**self.updates
        correction2 = 1 - beta2**self.updates

        gradient = (self._gradient() * factor).to(self.table.rows.device)
        weights, first, second = [self._tensors[name][held] for name in (WEIGHT, *MOMENTS)]
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        divisor = second.sqrt().div_(math.sqrt(correction2)).add_(self.eps)
        weights.mul_(1 - decay).addcdiv_(first, divisor, value=-lr / correction1)
        for name, value in zip((WEIGHT, *MOMENTS), (weights, first, second), strict=True):
            self._tensors[name].index_copy_(0, held, value)

        self._missed.count(lr, group["weight_decay"], self.updates)
        self._last[held] = self._missed.now
        self._columns = None

    @torch.no_grad()
    def update_averages(self, decay: float) -> None:
        """Move the averages of all rows towards the weights, right after `step`."""
        held = self._fetched().held
        averages = self._tensors[AVERAGE][held].lerp_(self.table.rows[held], 1 - decay)
        self._tensors[AVERAGE].index_copy_(0, held, averages)
        self._missed.count_average(decay)
        self._columns = None

    @torch.no_grad()
    def catch_up(self, held: torch.Tensor) -> None:
        """Apply the updates that the rows at these places have missed."""
        if self._missed.is_full:
            self.catch_up_all()
        if not self._missed.now:
            return
        values = [tensor[held] for tensor in self._tensors.values()]
        self._apply(self._last[held], values)
        for tensor, value in zip(self._tensors.values(), values, strict=True):
            tensor.index_copy_(0, held, value)
        self._last[held] = self._missed.now

    @torch.no_grad()
    def catch_up_all(self) -> None:
        """Apply the updates that any row has missed."""
        if not self._missed.now:
            return
        for start in range(0, len(self._last), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            self._apply(self._last[block], [tensor[block] for tensor in self._tensors.values()])
        self._reset()

    def _reset(self) -> None:
        self._missed = MissedUpdates(self.betas, self.eps)
        self._last.zero_()
        self._columns = None

    def _apply(self, last_n: torch.Tensor, values: list[torch.Tensor]) -> None:
        """Apply missed updates to rows [n, D] of `_tensors`, in place.

        Args:
            last_n: last update of each row.
        """
        if self._columns is None:
            self._columns = self._missed.columns(self._last.device)
        missed = catch_up_of(self._columns, last_n)
        weights, first, second, *averages = values
        root = second.sqrt()
        if averages:
            averages[0].mul_(missed.average_keep).addcmul_(weights, missed.average_weight)
            averages[0].addcmul_(first, missed.average_pull.at(root), value=-1)
        weights.mul_(missed.keep).addcmul_(first, missed.pull.at(root), value=-1)
        first.mul_(missed.first)
        second.mul_(missed.second)

    def _gradient(self) -> torch.Tensor:
        gradient = self._fetched().own.grad
        assert gradient is not None
        return gradient

    def _fetched(self) -> FetchedRows:
        fetched = self.table.fetched
        assert fetched is not None, "rows were released before the update"
        return fetched
