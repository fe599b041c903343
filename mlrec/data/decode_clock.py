"""Time limit of decoding: find items that ended a loader worker, to leave them out next time."""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterable, Iterator

import numpy as np

from mlrec.data.samples import Sample
from mlrec.runtime.time_limit import REASON, seconds_for, time_limit

_OVERDUE = -1.0
"""Deadline of an item that ended a worker."""


class DecodeClock:
    """Deadlines of the items that are being decoded.

    They are in memory that forked workers share with the process that replaces them.
    """

    def __init__(self, catalogue_size: int) -> None:
        shared = mmap.mmap(-1, 8 * (catalogue_size + 1))
        self._deadline_N1 = np.frombuffer(shared, dtype=np.float64)
        """Seconds of time.monotonic(), which all processes share; 0 for items not being decoded."""

    def timed(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield the samples, each with a time limit until the next one is requested.

        An item that ended a worker before comes with a reason and without members.
        """
        for item, members in samples:
            if self._deadline_N1[item] == _OVERDUE:
                yield Sample(item, REASON)
                continue
            num_bytes = 0 if isinstance(members, str) else sum(map(len, members.values()))
            self._deadline_N1[item] = time.monotonic() + seconds_for(num_bytes)
            with time_limit(num_bytes):
                yield Sample(item, members)
            self._deadline_N1[item] = 0.0

    def find_overdue(self) -> list[int]:
        """Return the items that ended a worker since the last call.

        The process that replaces workers calls this after all of them have ended.
        """
        deadline = self._deadline_N1
        overdue_items = np.flatnonzero((deadline > 0) & (deadline <= time.monotonic()))
        # Other items belong to workers that ended for another reason: decode them again.
        deadline[deadline > 0] = 0.0
        deadline[overdue_items] = _OVERDUE
        items: list[int] = overdue_items.tolist()
        return items
