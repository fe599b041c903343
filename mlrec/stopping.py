"""A run that is told to stop does so after the same step on all ranks."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

import torch
import torch.distributed as dist

from mlrec.distributed import TIMEOUT, World


class StopRequest:
    """Hears SIGTERM (pre-emption, a time limit) and Ctrl-C from `with` to its end, and agrees on them with the other ranks.

    A second Ctrl-C ends the process at once.
    """

    def __init__(self, world: World) -> None:
        """Collective."""
        self._own = 0
        """The signal that this rank was told."""
        self._found = torch.zeros(1, dtype=torch.int32)
        self._pending: dist.Work | None = None
        # of host memory, over a group of its own: the device's queue is not waited for
        self._group = dist.new_group(backend="gloo", timeout=TIMEOUT) if world.size > 1 else None

    def __enter__(self) -> StopRequest:
        numbers = (signal.SIGTERM, signal.SIGINT)
        heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._hear) for number in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._pending is not None and kind is None:
            self._pending.wait()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == self._own == signal.SIGINT:
            raise KeyboardInterrupt
        self._own = number

    def agreed(self) -> int:
        """The signal that some rank had been told before its last call of this, 0 for none; collective, once after each step.

        The ranks exchange it while the next step runs: nothing waits, and a stop comes one step later.
        """
        if self._group is None:
            return self._own
        agreed = 0
        if self._pending is not None:
            self._pending.wait()
            agreed = int(self._found)
        self._found.fill_(self._own)
        self._pending = dist.all_reduce(self._found, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed
