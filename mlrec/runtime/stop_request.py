"""Stops a run after the same step on all ranks."""

from __future__ import annotations

from contextlib import ExitStack
from types import FrameType, TracebackType

import torch
import torch.distributed as dist

from mlrec.runtime.distributed import TIMEOUT, World
from mlrec.runtime.ending import STOP_S, grace, handle_stop_signals, restore_handlers


class StopRequest:
    """Stop signals of this rank, on which all ranks agree.

    These are SIGTERM (pre-emption, a time limit), Ctrl-C and SIGHUP (a closed terminal). The run
    has STOP_S from the signal to its end. A second signal ends the process, as
    `mlrec.runtime.ending` describes.
    """

    def __init__(self, world: World) -> None:
        """Create the group in which the ranks agree; collective."""
        self._own_signal = 0
        """Number of the first stop signal of this rank; 0 for none."""
        self._largest_signal = torch.zeros(1, dtype=torch.int32)
        """Result of the exchange under way: the largest number of all ranks."""
        self._exchange: dist.Work | None = None
        # A gloo group exchanges host memory: it does not wait for the GPU's queue.
        self._group = dist.new_group(backend="gloo", timeout=TIMEOUT) if world.size > 1 else None

    def __enter__(self) -> StopRequest:
        self._previous_handlers = handle_stop_signals(self._note)
        self._grace = ExitStack()
        self._grace.enter_context(grace(STOP_S))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        restore_handlers(self._previous_handlers)
        self._grace.close()
        # After an error the other ranks may be gone, and waiting would not end.
        if self._exchange is not None and kind is None:
            self._exchange.wait()

    def _note(self, number: int, frame: FrameType | None) -> None:
        # The first signal decides the exit code.
        self._own_signal = self._own_signal or number

    def agreed(self) -> int:
        """Return the stop signal on which all ranks agree, 0 for none; collective, after each step.

        It is a signal that some rank had received before its previous call. The ranks exchange it
        while the next step runs. So no rank waits, and a stop comes one step later.
        """
        if self._group is None:
            return self._own_signal
        agreed = 0
        if self._exchange is not None:
            # Started after the previous step, so it has had a whole step to finish.
            self._exchange.wait()
            agreed = int(self._largest_signal)
        self._largest_signal.fill_(self._own_signal)
        self._exchange = dist.all_reduce(
            self._largest_signal, op=dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return agreed
