"""Which items a rank need not read again, as their frozen prefixes are kept: known to every loader worker without a word."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from mlrec.data.decode import Decoded, decode_items
from mlrec.data.format import MediaInfo
from mlrec.data.item_store import Sample
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Kept


class KeptItems:
    """The first distinct items that the rank has owned since the step in which the run began or was resumed.

    The item tower keeps the same ones, and a step's items are a function of the step: so a worker that builds step s walks the
    plans up to s, 1 ms each for 512 users. An item that could not be read is not kept; the worker that finds out tells the others
    in shared memory, those that were ahead of it take the item for kept, and the tower leaves it out of such a step.
    """

    def __init__(
        self,
        kept: Kept,
        plan: Plan,
        rank: int,
        first: int,
        catalogue_size: int,
        items_N: np.ndarray | None,
    ) -> None:
        """
        Args:
            first: the step in which the run began or was resumed.
            items_N: the items of each step, where they are not the global batch's.
        """
        self.inputs = kept.inputs
        self._capacity, self._plan, self._rank, self._next, self._items_N = (
            kept.capacity,
            plan,
            rank,
            first,
            items_N,
        )
        self._seen_N1 = np.zeros(catalogue_size + 1, dtype=bool)
        self._count = 0
        self._lost_N1 = np.frombuffer(
            mmap.mmap(-1, catalogue_size + 1), dtype=bool
        )  # the same memory in forked workers

    def among(self, step: int, own_items: np.ndarray) -> np.ndarray:
        """bool [O]: which of the rank's items of the step are kept; steps are asked for in ascending order."""
        assert step >= self._next
        while self._next < step:
            plan = self._plan.step(self._next, self._items_N)
            self._see(plan.items_U[plan.items_of(self._rank)])
        kept_O: np.ndarray = self._seen_N1[own_items] & ~self._lost_N1[own_items]
        self._see(own_items)
        return kept_O

    def lose(self, items: Iterable[int]) -> None:
        """Takes note of items that could not be read."""
        self._lost_N1[list(items)] = True

    def _see(self, items: np.ndarray) -> None:
        new = items[~self._seen_N1[items]][: self._capacity - self._count]
        self._seen_N1[new] = True
        self._count += len(new)
        self._next += 1


def decode_but_kept(
    samples: tuple[Iterator[Sample], Iterator[Sample]],
    kept_n: np.ndarray,
    inputs: tuple[Sequence[InputSpec], Sequence[InputSpec]],
    media: MediaInfo,
) -> Decoded:
    """As decode_items; an input that is read of some items only has rows of these alone.

    Args:
        samples: of the items that are not kept, with what all inputs read, and of those that are, with what the others read.
        inputs: all, and those that are read of every item.
    """
    sizes = (int((~kept_n).sum()), int(kept_n.sum()))
    (found, valid, bad_items), (found_kept, valid_kept, bad_kept) = (
        decode_items(some, size, which, media)
        for some, size, which in zip(samples, sizes, inputs, strict=True)
    )
    order = torch.from_numpy(
        np.argsort(np.concatenate([np.flatnonzero(~kept_n), np.flatnonzero(kept_n)]))
    )
    for spec in inputs[1]:
        found[spec] = torch.cat([found[spec], found_kept[spec]])[order]
    return found, torch.cat([valid, valid_kept])[order], bad_items | bad_kept
