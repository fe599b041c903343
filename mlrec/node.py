"""One machine's part of a run that `mlrec.cluster` starts: the ranks under DeepSpeed's launcher, and their end in any case.

The first line of standard input is the Part as JSON; each further line is a signal's number, for all processes of the part. The
input's end means that nobody is left who waits for the run: it is stopped as by SIGTERM.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from typing import IO

from mlrec.process import STOP_S


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

    def command(self) -> list[str]:
        """DeepSpeed's launcher of this machine's ranks."""
        world = {host: list(range(slots)) for host, slots in self.slots.items()}
        encoded = base64.urlsafe_b64encode(json.dumps(world).encode()).decode()
        launcher = [sys.executable, "-u", "-m", "deepspeed.launcher.launch", "--log_level=critical", f"--world_info={encoded}"]
        meeting = [f"--node_rank={self.place}", f"--master_addr={self.master}", f"--master_port={self.port}"]
        return [*launcher, *meeting, "--module", "mlrec.train", *self.arguments]


def serve(instructions: IO[str]) -> int:
    """Runs the part that the instructions begin with to its end; the launcher's exit code."""
    part = Part(**json.loads(instructions.readline()))
    ranks = list(part.slots.values())[part.place]
    # more threads than cores make a step three times as long
    threads = str(max(1, len(os.sched_getaffinity(0)) // ranks))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, **part.environment}
    process = subprocess.Popen(part.command(), env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: _signal(process, signal.SIGTERM))
    threading.Thread(target=_obey, args=(instructions, process), daemon=True).start()
    code = process.wait()
    _signal(process, signal.SIGKILL)  # what a rank that died left behind
    return code if code >= 0 else 128 - code


def _obey(instructions: IO[str], process: subprocess.Popen[bytes]) -> None:
    for line in instructions:
        _signal(process, int(line))
    _signal(process, signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal to the launcher, the ranks and their loader workers: one process group."""
    with contextlib.suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(serve(sys.stdin))
