"""Phases and time limits that end the processes of a run.

The launcher supervises its machines, and each machine's node supervises its ranks. Both go
through the same phases:

    RUNNING --a process failed--> REPORTING --time limit--> KILLED
    RUNNING --a stop signal-----> STOPPING  --time limit--> KILLED

After a stop signal, each level waits a little longer than the one inside it:

    STOP_S          25 s   a rank finishes its step and saves a checkpoint
    RANK_STOP_S     26 s   then its node kills it
    MACHINE_STOP_S  28 s   then the launcher kills the machine's processes through its node
    END_S           29 s   then the launcher's own watch ends the launcher
"""

from __future__ import annotations

import enum
import time

from mlrec.runtime.ending import END_S, STOP_S

REPORT_S = 20.0
"""Seconds the remaining processes get to report their own errors after one has failed.

A broken connection is noticed within a second. Sending the last metrics to W&B takes longer."""
RANK_STOP_S = STOP_S + 1.0
"""Seconds from a stop signal until a node kills the ranks that are still running."""
MACHINE_STOP_S = END_S - 1.0
"""Seconds from a stop signal until the launcher kills the machines that are still running."""
UNKILLABLE_S = 3.0
"""Seconds a killed rank gets to disappear. One that stays is stuck in the kernel, for example
because its GPU is gone, and is abandoned."""
POLL_S = 0.1


class Phase(enum.Enum):
    """Stage of a group of processes on the way to its end."""

    RUNNING = "running"
    """No process has failed, and no stop was requested."""
    REPORTING = "reporting"
    """One process has failed; the others may still report their own errors."""
    STOPPING = "stopping"
    """A stop was requested; the processes finish their step and save a checkpoint."""
    KILLED = "killed"
    """The time limit of the phase before is over, and SIGKILL was sent."""


class Countdown:
    """The current phase of a group of processes and its time limit."""

    def __init__(self) -> None:
        self.phase = Phase.RUNNING
        # A run takes as long as it takes: only the later phases have a limit.
        self._deadline = float("inf")

    def enter(self, phase: Phase, limit_s: float) -> None:
        """Enter a phase that lasts at most `limit_s` seconds."""
        # The deadline comes first: another thread that sees the new phase must see its limit.
        self._deadline = time.monotonic() + limit_s
        self.phase = phase

    def is_over(self) -> bool:
        """Return whether the time limit of the current phase has passed."""
        return time.monotonic() > self._deadline
