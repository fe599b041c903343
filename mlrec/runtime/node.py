"""One machine's part of a run that `mlrec.runtime.launcher` starts: its ranks, and their end in any case.

The first line of standard input is the Part as JSON; each further line is a signal's number, for all processes of the part. The
input's end means that nobody is left who waits for the run: it is stopped as by SIGTERM. A node that is killed takes its ranks
along.
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

from mlrec.runtime.ending import REPEAT_S, STOP_S, end_with_parent
from mlrec.runtime.entry_point import BAD_INPUT
from mlrec.runtime.terminal import say

GRACE_S = 20.0
"""Seconds that the other ranks have after one has failed, to report their own errors: a second where connections break, more
where W&B gets the last metrics. Then they are killed."""
OWN_END_S = 1.0
"""Seconds that a rank has to end itself after STOP_S, before it is killed."""
KILLED_S = 3.0
"""A killed process that is still there after this many seconds is stuck in the kernel, as where a GPU is gone, and is left."""
POLL_S = 0.1


@dataclass(frozen=True)
class Part:
    """What a machine is told of the run."""

    arguments: tuple[str, ...]
    """Of `mlrec train`."""
    slots: dict[str, int]
    """Ranks of every machine, in the order of the ranks."""
    place: int
    """This machine's, among them."""
    master: str
    """Address of the first machine."""
    port: int
    environment: dict[str, str]
    """What is added to the machine's own."""

    def to_line(self) -> str:
        """As the node reads it."""
        return json.dumps(asdict(self)) + "\n"

    def ranks(self) -> dict[int, dict[str, str]]:
        """This machine's ranks, and what the environment tells each of its place among all."""
        slots = list(self.slots.values())
        count, first = slots[self.place], sum(slots[: self.place])
        world = {
            "WORLD_SIZE": str(sum(slots)),
            "MASTER_ADDR": self.master,
            "MASTER_PORT": str(self.port),
        }
        # LOCAL_SIZE: DeepSpeed on CPUs would run numactl at each reduction without it
        here = {"LOCAL_WORLD_SIZE": str(count), "LOCAL_SIZE": str(count)}
        return {
            first + local: {**world, **here, "RANK": str(first + local), "LOCAL_RANK": str(local)}
            for local in range(count)
        }


class Ranks:
    """The ranks of a part, from their start to their end; each of them and its loader workers are a process group."""

    def __init__(self, part: Part) -> None:
        """Starts them. They see the GPUs that the machine's environment shows: a shared machine gives a run some of them."""
        self._host = list(part.slots)[part.place]
        self._deadline = float("inf")
        self._told_at: float | None = None
        ranks = part.ranks()
        # more threads than cores make a step three times as long
        threads = str(max(1, len(os.sched_getaffinity(0)) // len(ranks)))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, **part.environment}
        command = [sys.executable, "-u", "-m", "mlrec.train", *part.arguments]
        node = os.getpid()

        self._processes = {
            rank: subprocess.Popen(
                command,
                env=environment | own,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(node),
            )
            for rank, own in ranks.items()
        }

    def signal(self, number: int) -> None:
        """Sends a signal to all ranks and their loader workers."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):  # they have ended
                os.killpg(process.pid, number)

    def stop(self) -> None:
        """Tell all ranks to stop, for which they have STOP_S."""
        self._deadline = min(self._deadline, time.monotonic() + STOP_S + OWN_END_S)
        self.signal(signal.SIGTERM)

    def hear(self, number: int, frame: object) -> None:
        """Stop the ranks on a signal, and kill them on a second one."""
        if self._told_at is None:
            self._told_at = time.monotonic()
            self.stop()
        elif time.monotonic() - self._told_at > REPEAT_S:
            self.signal(signal.SIGKILL)

    def wait(self) -> int:
        """Waits for the end of all ranks; the exit code of the first that failed, 128 + N where signal N killed it.

        When one fails the others are told to end. Those that do not end in time, then or after a stop, are killed.
        """
        failed, killed = 0, False
        while True:
            codes = {rank: process.poll() for rank, process in self._processes.items()}
            # of several at once, the one that a signal killed (-N): the others only report that their connections broke
            failed = failed or min((code for code in codes.values() if code), default=0)
            running = [rank for rank, code in codes.items() if code is None]
            if not running or time.monotonic() > self._deadline + KILLED_S:
                break
            if failed and self._deadline == float("inf"):
                self._deadline = time.monotonic() + GRACE_S
                if failed != BAD_INPUT:  # which all find and rank 0 says, if it lives so long
                    self.signal(signal.SIGTERM)
            elif not killed and time.monotonic() > self._deadline:
                failed, killed = failed or -signal.SIGKILL, True
                self.signal(signal.SIGKILL)
                with contextlib.suppress(OSError):  # nobody reads any more
                    names = ", ".join(map(str, running))
                    say(
                        f"{self._host}: of its ranks {names} had not ended and are killed",
                        error=True,
                        flush=True,
                    )
            time.sleep(POLL_S)
        self.signal(signal.SIGKILL)  # what a rank that died left behind
        return failed if failed >= 0 else 128 - failed


def serve(instructions: IO[str]) -> int:
    """Runs the part that the instructions begin with to its end; the exit code of the first rank that failed."""
    ranks = Ranks(Part(**json.loads(instructions.readline())))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ranks.hear)
    threading.Thread(target=_obey, args=(instructions, ranks), daemon=True).start()
    return ranks.wait()


def _obey(instructions: IO[str], ranks: Ranks) -> None:
    for line in instructions:
        if int(line) == signal.SIGTERM:
            ranks.stop()
        else:
            ranks.signal(int(line))
    ranks.stop()


if __name__ == "__main__":
    sys.exit(serve(sys.stdin))
