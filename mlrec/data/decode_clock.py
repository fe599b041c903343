"""Find items whose decoding exceeded the time limit and ended a loader worker, and skip them."""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterable, Iterator

import numpy as np

from mlrec.data.samples import Sample
from mlrec.runtime.time_limit import REASON, seconds_for, time_limit

_OVERDUE = -1.0
"""Value that marks an item that ended a worker. Deadlines are positive."""


class DecodeClock:
    """Deadlines of the items that are being decoded.

    The deadlines are in memory that forked workers share with the process that replaces them.
    """

    def __init__(self, catalogue_size: int) -> None:
        # 8 bytes per float64, and one entry more than items because item ids start at 1
        memory = mmap.mmap(-1, 8 * (catalogue_size + 1))
        self._deadline_N1 = np.frombuffer(memory, dtype=np.float64)
        """Deadline by item id (s, time.monotonic() of all processes); 0 if not being decoded."""

    def timed(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield the samples, each with a time limit until the next one is requested.

        An item that ended a worker earlier gets a reason instead of its members.
        """
        for item, members in samples:
            if self._deadline_N1[item] == _OVERDUE:
                yield Sample(item, REASON)
                continue
            # an unreadable item has a reason (str) instead of members
            num_bytes = 0 if isinstance(members, str) else sum(map(len, members.values()))
            self._deadline_N1[item] = time.monotonic() + seconds_for(num_bytes)
            with time_limit(num_bytes):
                yield Sample(item, members)
            # not reached if the limit ends the worker, so find_overdue sees the deadline
            self._deadline_N1[item] = 0.0

    def find_overdue(self) -> list[int]:
        """Return the items that ended a worker since the last call.

        The process that replaces workers calls this after all of them have ended.
        """
        deadline_N1 = self._deadline_N1
        overdue_items = np.flatnonzero((deadline_N1 > 0) & (deadline_N1 <= time.monotonic()))
        # The other items' workers ended for another reason, so they are decoded again.
        deadline_N1[deadline_N1 > 0] = 0.0
        deadline_N1[overdue_items] = _OVERDUE
        items: list[int] = overdue_items.tolist()
        return items
