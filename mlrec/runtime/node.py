"""Starts and supervises the ranks of one machine, as told by `mlrec.runtime.launcher`.

The first line of standard input is a `Part` as JSON. Each further line is the number of a signal
for all ranks of the machine. When the input ends, nobody waits for the run any more, and the node
stops it as if by SIGTERM. If a node is killed, the kernel kills its ranks as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import IO

from mlrec.runtime.ending import REPEAT_S, STOP_SIGNALS, end_with_parent
from mlrec.runtime.entry_point import BAD_INPUT
from mlrec.runtime.phases import POLL_S, RANK_STOP_S, REPORT_S, UNKILLABLE_S, Countdown, Phase
from mlrec.runtime.terminal import say


@dataclass(frozen=True)
class Part:
    """One machine's part of a run."""

    arguments: tuple[str, ...]
    """Arguments of `mlrec train`."""
    slots: dict[str, int]
    """Number of ranks by machine, in the order of the ranks."""
    place: int
    """Index of this machine in `slots`."""
    master: str
    """Address of the first machine, where all ranks meet."""
    port: int
    """Port on which rank 0 listens."""
    environment: dict[str, str]
    """Variables added to the machine's own environment."""

    def to_line(self) -> str:
        """Return the part as the line of JSON that a node reads."""
        return json.dumps(asdict(self)) + "\n"

    def ranks(self) -> dict[int, dict[str, str]]:
        """Return the environment variables that place each rank of this machine in the run."""
        rank_counts = list(self.slots.values())
        count = rank_counts[self.place]
        first_rank = sum(rank_counts[: self.place])
        shared = {
            "WORLD_SIZE": str(sum(rank_counts)),
            "MASTER_ADDR": self.master,
            "MASTER_PORT": str(self.port),
            "LOCAL_WORLD_SIZE": str(count),
            # Without LOCAL_SIZE, DeepSpeed on CPUs would run numactl at each reduction.
            "LOCAL_SIZE": str(count),
        }
        environments = {}
        for local_rank in range(count):
            rank = first_rank + local_rank
            own = {"RANK": str(rank), "LOCAL_RANK": str(local_rank)}
            environments[rank] = shared | own
        return environments


class Ranks:
    """The running ranks of one machine; a rank and its loader workers are one process group."""

    def __init__(self, part: Part) -> None:
        """Start the ranks.

        They see the GPUs that the machine's environment shows. On a shared machine these may be
        only some of its GPUs.
        """
        self._host = list(part.slots)[part.place]
        self._countdown = Countdown()
        self._first_stop_at: float | None = None
        self._failure = 0
        """Exit code of the first rank that failed, -N after signal N; 0 while none has."""
        self._processes = self._start(part)

    @staticmethod
    def _start(part: Part) -> dict[int, subprocess.Popen[bytes]]:
        rank_environments = part.ranks()
        # More threads than cores make a step three times as long.
        threads = max(1, len(os.sched_getaffinity(0)) // len(rank_environments))
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ, **part.environment}
        command = [sys.executable, "-u", "-m", "mlrec.train", *part.arguments]
        # Read here: in the started process, os.getpid() would be its own id.
        node = os.getpid()
        processes = {}
        for rank, own in rank_environments.items():
            processes[rank] = subprocess.Popen(
                command,
                env=environment | own,
                stdin=subprocess.DEVNULL,
                # A process group of its own lets a signal reach its loader workers as well.
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(node),
            )
        return processes

    def signal(self, number: int) -> None:
        """Send a signal to all ranks and their loader workers."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):  # the group has ended
                os.killpg(process.pid, number)

    def stop(self) -> None:
        """Tell all ranks to stop; after RANK_STOP_S the remaining ones are killed."""
        # After a failure the shorter limit of that phase stays in force.
        if self._countdown.phase is Phase.RUNNING:
            self._countdown.enter(Phase.STOPPING, RANK_STOP_S)
        self.signal(signal.SIGTERM)

    def handle_signal(self, number: int, frame: object) -> None:
        """Stop the ranks at the first signal, and kill them at a second one."""
        if self._first_stop_at is None:
            self._first_stop_at = time.monotonic()
            self.stop()
        elif time.monotonic() - self._first_stop_at > REPEAT_S:
            self.signal(signal.SIGKILL)

    def wait(self) -> int:
        """Wait until all ranks have ended.

        Returns:
            The exit code of the first rank that failed, 128 + N where signal N killed it, or 0.
        """
        while running := self._poll():
            phase = self._countdown.phase
            if phase is Phase.RUNNING and self._failure:
                self._let_others_report()
            elif self._countdown.is_over():
                if phase is Phase.KILLED:
                    break  # stuck in the kernel; waiting longer does not help
                self._kill(running)
            time.sleep(POLL_S)
        # Loader workers outlive a rank that was killed.
        self.signal(signal.SIGKILL)
        return self._failure if self._failure >= 0 else 128 - self._failure

    def _poll(self) -> list[int]:
        """Return the ranks that are still running, and note the first failure."""
        running = []
        failures = []
        for rank, process in self._processes.items():
            # poll returns None for a process that still runs, and 0 for one that succeeded.
            code = process.poll()
            if code is None:
                running.append(rank)
            elif code:
                failures.append(code)
        if failures and not self._failure:
            # Of several failures at once, the one by a signal (-N) is the cause: the other ranks
            # only report that their connections broke.
            self._failure = min(failures)
        return running

    def _let_others_report(self) -> None:
        """Give the remaining ranks REPORT_S after the first failure, and tell them to stop."""
        self._countdown.enter(Phase.REPORTING, REPORT_S)
        # Bad input fails on every rank, but only rank 0 prints the reason: let it get there.
        if self._failure != BAD_INPUT:
            self.signal(signal.SIGTERM)

    def _kill(self, running: list[int]) -> None:
        self._countdown.enter(Phase.KILLED, UNKILLABLE_S)
        self._failure = self._failure or -signal.SIGKILL
        self.signal(signal.SIGKILL)
        names = ", ".join(map(str, running))
        message = f"{self._host}: ranks {names} did not end in time and were killed"
        with contextlib.suppress(OSError):  # nobody reads the output any more
            say(message, error=True, flush=True)


def serve(instructions: IO[str]) -> int:
    """Run the part that the instructions begin with, and return its exit code."""
    ranks = Ranks(Part(**json.loads(instructions.readline())))
    for number in STOP_SIGNALS:
        signal.signal(number, ranks.handle_signal)
    # A thread, as the main thread waits for the ranks and handles signals.
    threading.Thread(target=_follow, args=(instructions, ranks), daemon=True).start()
    return ranks.wait()


def _follow(instructions: IO[str], ranks: Ranks) -> None:
    """Pass signals on as they arrive, and stop the ranks when the input ends."""
    for line in instructions:
        number = int(line)
        if number == signal.SIGTERM:
            ranks.stop()
        else:
            ranks.signal(number)
    ranks.stop()


if __name__ == "__main__":
    sys.exit(serve(sys.stdin))
