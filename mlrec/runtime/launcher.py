"""Starts a run on this machine or on the machines of a hostfile, and ends it on all of them together.

launch/local.sh and launch/multinode.sh call it: `python -m mlrec.runtime.launcher WHERE [--elastic] CONFIG [CONFIG ...] [key=value ...]`.
Every machine gets a `mlrec.runtime.node`, over ssh where it is another one, which starts its ranks there. A part that fails ends the
others after a grace period; SIGTERM, Ctrl-C and a lost terminal stop all ranks after the same step, with a checkpoint.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlrec.runtime.ending import END_S, REPEAT_S
from mlrec.runtime.entry_point import BAD_INPUT, asks_for_help, exit_with, run_main
from mlrec.runtime.node import GRACE_S, Part
from mlrec.runtime.terminal import say

USAGE = """usage: python -m mlrec.runtime.launcher HOSTFILE|localhost:RANKS [--elastic] CONFIG [CONFIG ...] [key=value ...]

  --elastic   after a failure, start again on the machines of the hostfile that still answer ssh"""

SSH = (
    "ssh",
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=10",
    "-o",
    "ServerAliveInterval=10",
    "-o",
    "ServerAliveCountMax=3",
)
"""A machine that vanishes without closing its connections is given up after 40 s."""
FORWARDED = ("NCCL_", "GLOO_", "TORCH_", "AWS_", "GOOGLE_", "AZURE_", "WANDB_", "HF_")
"""Variables that go over to the other machines, by their beginnings."""
MAX_FAILURES = 3
"""An elastic run that fails so often in a row is given up;"""
LASTING_S = 600.0
"""a start that lasted so long was no failure in a row."""

ANSWER_S = 20.0
"""Seconds that a machine has to tell its addresses over ssh."""

_LOST = 255
"""ssh's exit code when it cannot connect, or the connection breaks."""


def read_hostfile(path: Path) -> dict[str, int]:
    """The machines of a hostfile, and the ranks of each: lines "NAME slots=N".

    Raises:
        ValueError: there is no such file, a line says something else, or none names a machine.
    """
    if not path.is_file():
        raise ValueError(f"there is no hostfile {path}; write one as launch/hostfile.example is")
    slots: dict[str, int] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        found = re.fullmatch(r"([^\s=-][^\s=]*)\s+slots=([1-9]\d*)", line)
        if found is None:
            raise ValueError(
                f"{path}, line {number}: {line!r} is not NAME slots=N, with N of 1 or more"
            )
        if found[1] in slots:
            raise ValueError(
                f"{path}, line {number}: {found[1]} is there twice; give it one line with all its slots"
            )
        slots[found[1]] = int(found[2])
    if not slots:
        raise ValueError(f"{path} names no machine; write lines NAME slots=N")
    return slots


def addresses_of(hosts: Sequence[str]) -> dict[str, str]:
    """The address of every machine that answers ssh: the name where that is one, else the first that it tells."""

    def ask(host: str) -> str | None:
        command = [*SSH, host, "hostname -I"]
        try:
            answer = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=ANSWER_S,
            )
        except subprocess.TimeoutExpired:
            return None
        if answer.returncode or not answer.stdout.split():
            return None
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            return answer.stdout.split()[0]

    with ThreadPoolExecutor(len(hosts)) as pool:
        answers = zip(hosts, pool.map(ask, hosts), strict=True)
        return {host: address for host, address in answers if address is not None}


def in_words(host: str, code: int) -> str:
    """What the exit code of a machine's part means."""
    if code == _LOST:
        return f"the connection to {host} is lost"
    if code > 128 or code < 0:  # below 0 it was the node here, and the ranks with it
        return f"a rank on {host} was ended by {_name(code - 128 if code > 0 else -code)}"
    return f"the ranks on {host} ended with exit code {code}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Parts:
    """The parts of a run on its machines, from their start to their end."""

    def __init__(
        self,
        slots: Mapping[str, int],
        addresses: Mapping[str, str] | None,
        arguments: Sequence[str],
    ) -> None:
        """
        Args:
            addresses: of the machines, which are reached by ssh; None for this machine.
        """
        master = "127.0.0.1" if addresses is None else addresses[next(iter(slots))]
        port = 20000 + random.randrange(
            10000
        )  # one of its own for each start, so that several runs share a machine
        forwarded = {
            name: value for name, value in os.environ.items() if name.startswith(FORWARDED)
        }
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self._codes: dict[str, int] = {}
        for place, host in enumerate(slots):
            command = [sys.executable, "-m", "mlrec.runtime.node"]
            if addresses is not None:
                command = [
                    *SSH,
                    host,
                    f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(command)}",
                ]
            # a session of its own: a terminal's Ctrl-C comes to this process alone, which passes it on
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, text=True, start_new_session=True
            )
            self.processes[host] = process
            # through the input, not the command line: that is there to read for all users of both machines
            part = Part(
                tuple(arguments),
                dict(slots),
                place,
                master,
                port,
                {} if addresses is None else forwarded,
            )
            self._tell(process, part.to_line())

    @staticmethod
    def _tell(process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: its exit code tells
            process.stdin.write(line)
            process.stdin.flush()

    def signal(self, number: int) -> None:
        """Sends a signal to all processes of all parts."""
        for process in self.processes.values():
            self._tell(process, f"{int(number)}\n")

    def codes(self) -> dict[str, int]:
        """Exit codes of the parts that have ended, the first one first."""
        for host, process in self.processes.items():
            if host not in self._codes and (code := process.poll()) is not None:
                self._codes[host] = code
        return self._codes

    def wait(self, stop: Stop) -> dict[str, int]:
        """Exit codes of all parts; those that do not end when they should are killed."""
        deadline, passed = (
            float("inf"),
            0,
        )  # passed: 1 where the parts were told to stop, 2 where they were killed
        while len(codes := self.codes()) < len(self.processes):
            if stop.urgency > passed:
                self.signal(signal.SIGKILL if stop.urgency == 2 else signal.SIGTERM)
                deadline, passed = (
                    time.monotonic() + END_S - 1.0,
                    stop.urgency,
                )  # their node ends them before
            elif deadline == float("inf") and (
                failed := next(((h, c) for h, c in codes.items() if c), None)
            ):
                say(
                    f"{in_words(*failed)}; the run ends on the other machines within {GRACE_S:.0f} s",
                    error=True,
                    flush=True,
                )
                deadline = time.monotonic() + GRACE_S
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                deadline += GRACE_S
                for host in self.processes.keys() - codes.keys():
                    say(f"{host} had not ended by itself and is killed", error=True, flush=True)
            time.sleep(0.1)
        return codes

    def end(self) -> None:
        """Ends what is still there: the parts stop when their inputs end."""
        for process in self.processes.values():
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # it ended with a line unread
                process.stdin.close()
            process.wait()


class Stop:
    """Whether this process was told to stop."""

    def __init__(self) -> None:
        self.first = 0
        """The signal that said so first."""
        self.urgency = 0
        """1 after a signal, 2 after a second one. Repeats within REPEAT_S are the same request."""
        self._first_at = 0.0

    def __call__(self, number: int, frame: object) -> None:
        """Note a signal; this is the signals' handler."""
        if not self.first:
            self.first, self.urgency, self._first_at = number, 1, time.monotonic()
        elif time.monotonic() - self._first_at > REPEAT_S:
            self.urgency = 2

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Handles SIGTERM, Ctrl-C and a lost terminal; what nohup has this process ignore stays ignored."""
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self) for number in heard}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(
    slots: Mapping[str, int], arguments: Sequence[str], over_ssh: bool, elastic: bool, stop: Stop
) -> int:
    """Runs `mlrec train` with these arguments to its end; the exit code.

    Raises:
        ValueError: a machine does not answer ssh, and the run is not elastic.
        RuntimeError: a part failed; an elastic run, again and again.
    """
    failures = 0
    while True:
        addresses = addresses_of(list(slots)) if over_ssh else None
        here = {
            host: count for host, count in slots.items() if addresses is None or host in addresses
        }
        missing = [host for host in slots if host not in here]
        if missing and not (elastic and here):
            names = ", ".join(missing)
            raise ValueError(
                f"{names} of the hostfile cannot be reached by ssh without a password; try: ssh {missing[0]} true"
            )
        if missing:
            say(
                f"{', '.join(missing)} cannot be reached: starting on {', '.join(here)}",
                error=True,
                flush=True,
            )
        began = time.monotonic()
        parts = Parts(here, addresses, arguments)
        try:
            codes = parts.wait(stop)
        finally:
            parts.end()
        if not any(codes.values()):
            return 0
        if stop.urgency:
            return 128 + stop.first
        if BAD_INPUT in codes.values():
            return BAD_INPUT  # every rank found the same, and rank 0 has said it
        failures = 1 if time.monotonic() - began > LASTING_S else failures + 1
        reasons = "; ".join(in_words(host, code) for host, code in codes.items() if code)
        if not elastic or failures == MAX_FAILURES:
            often = f" {failures} times in a row" if elastic else ""
            raise RuntimeError(
                f"the run has failed{often}: {reasons}. The same command goes on from the last checkpoint"
            )
        say(f"{reasons}: starting again from the last checkpoint", error=True, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Starts a run: WHERE [--elastic] CONFIG [CONFIG ...] [key=value ...]."""
    if asks_for_help(arguments, USAGE):
        return 0
    where, given = (
        arguments[0] if arguments else "",
        [argument for argument in arguments[1:] if argument != "--elastic"],
    )
    elastic = len(given) < len(arguments) - 1
    here = re.fullmatch(r"localhost:([1-9]\d*)", where)
    if (
        not given
        or (here and elastic)
        or any(argument.startswith("-") for argument in (where, *given))
    ):
        raise ValueError(USAGE)
    slots = {"localhost": int(here[1])} if here else read_hostfile(Path(where))
    with Stop().listening() as stop:
        return run(slots, given, over_ssh=here is None, elastic=elastic, stop=stop)


if __name__ == "__main__":
    exit_with(run_main(main, sys.argv[1:], grace_s=END_S))
