"""A run that is told to stop does so after the same step on all ranks."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from types import FrameType, TracebackType

import torch
import torch.distributed as dist

from mlrec.runtime.distributed import TIMEOUT, World
from mlrec.runtime.ending import STOP_S, STOP_SIGNALS, grace


class StopRequest:
    """Note SIGTERM (pre-emption, a time limit), Ctrl-C and SIGHUP (a closed terminal), and agree on them with the other ranks.

    The run has STOP_S from the signal to its end. A second signal ends the process (see mlrec.runtime.ending).
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
        heard = [
            number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
        ]
        self._before = {number: signal.signal(number, self._hear) for number in heard}
        self._grace = ExitStack()
        self._grace.enter_context(grace(STOP_S))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._grace.close()
        if self._pending is not None and kind is None:
            self._pending.wait()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._own = self._own or number

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
        self._pending = dist.all_reduce(
            self._found, op=dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return agreed
