"""What the ranks tell each other before they encode a step's items, in one exchange."""

from __future__ import annotations

from typing import NamedTuple

import torch

from mlrec.models.chunks import Counts
from mlrec.runtime.distributed import gather, to_device


class Agreement(NamedTuple):
    """Facts about a step that all ranks know, in host memory."""

    valid_U: torch.Tensor
    """Items that could be read, of all ranks, bool."""
    most: Counts
    """Largest numbers of items of any rank by the way they are encoded."""


def agree(
    valid_O: torch.Tensor, counts: Counts, owned_W: tuple[int, ...], device: torch.device
) -> Agreement:
    """Exchange what the ranks know of their own items; collective.

    A single rank needs no device. On several ranks the host waits for the device once.

    Args:
        valid_O: this rank's items that could be read, bool, in host memory.
        counts: of this rank's items; zeros without an activation cache.
        owned_W: number of items of each rank.
        device: of the ranks' process group.
    """
    if len(owned_W) == 1:
        return Agreement(valid_O, counts)
    # Every rank sends one row of the same length: flags, padding, counts.
    most_items = max(owned_W)
    own_row = torch.zeros(most_items + len(counts), dtype=torch.int32)
    own_row[: len(valid_O)] = valid_O
    own_row[most_items:] = torch.tensor(counts)
    rows_W = gather(to_device(own_row, device)[None], (1,) * len(owned_W)).cpu()
    flags = [row[:owned] for row, owned in zip(rows_W, owned_W, strict=True)]
    largest = rows_W[:, most_items:].amax(dim=0)
    return Agreement(torch.cat(flags) > 0, Counts(*largest.tolist()))
