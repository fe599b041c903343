"""The parts of a run on its machines: started, signalled, and ended together."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from mlrec.runtime.ending import REPEAT_S, handle_stop_signals, restore_handlers
from mlrec.runtime.hosts import SSH
from mlrec.runtime.node import Part
from mlrec.runtime.phases import MACHINE_STOP_S, POLL_S, REPORT_S, Countdown, Phase
from mlrec.runtime.terminal import say

FORWARDED_PREFIXES = ("NCCL_", "GLOO_", "TORCH_", "AWS_", "GOOGLE_", "AZURE_", "WANDB_", "HF_")
"""Prefixes of the environment variables that are passed to the other machines."""
FIRST_PORT = 20000
NUM_PORTS = 10000

_SSH_CONNECTION_LOST = 255
"""Exit code of ssh when it cannot connect or its connection breaks."""


class StopSignals:
    """The stop signals that the launcher has received."""

    def __init__(self) -> None:
        self.first = 0
        """Number of the first stop signal; 0 for none."""
        self.to_pass_on = 0
        """Signal for the ranks: SIGTERM after one stop signal, SIGKILL after two, 0 after none."""
        self._first_at = 0.0

    def handle(self, number: int, frame: object) -> None:
        """Note a signal. Repeats within REPEAT_S count as the same request."""
        if not self.first:
            self.first = number
            self.to_pass_on = signal.SIGTERM
            self._first_at = time.monotonic()
        elif time.monotonic() - self._first_at > REPEAT_S:
            self.to_pass_on = signal.SIGKILL

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopSignals]:
        """Handle SIGTERM, Ctrl-C and SIGHUP within the block, except signals ignored by nohup."""
        previous_handlers = handle_stop_signals(self.handle)
        try:
            yield self
        finally:
            restore_handlers(previous_handlers)


class Machines:
    """The node processes of a run, one per machine, from their start to their end."""

    def __init__(
        self,
        slots: Mapping[str, int],
        addresses: Mapping[str, str] | None,
        arguments: Sequence[str],
    ) -> None:
        """Start a node on every machine.

        Args:
            slots: number of ranks by machine.
            addresses: addresses of the machines that ssh reaches; None for this machine alone.
            arguments: arguments of `mlrec train`.
        """
        master = "127.0.0.1" if addresses is None else addresses[next(iter(slots))]
        # A new port for each start: several runs may share a machine.
        port = FIRST_PORT + random.randrange(NUM_PORTS)
        environment = {} if addresses is None else _forwarded_environment()
        self._nodes: dict[str, subprocess.Popen[str]] = {}
        self._codes: dict[str, int] = {}
        """Exit codes of the nodes that have ended, the first one first."""
        for place, host in enumerate(slots):
            part = Part(tuple(arguments), dict(slots), place, master, port, environment)
            node = _start_node(host, is_remote=addresses is not None)
            self._nodes[host] = node
            # Through standard input: every user of a machine can read a command line, and the
            # environment holds credentials.
            _send(node, part.to_line())

    def signal(self, number: int) -> None:
        """Send a signal to all ranks on all machines."""
        for node in self._nodes.values():
            _send(node, f"{int(number)}\n")

    def wait(self, stop: StopSignals) -> dict[str, int]:
        """Wait until all nodes have ended, and return their exit codes.

        Nodes that exceed the time limit of a phase are killed.
        """
        countdown = Countdown()
        passed_on = 0
        while running := self._poll():
            if stop.to_pass_on != passed_on:
                passed_on = stop.to_pass_on
                self.signal(passed_on)
                countdown.enter(Phase.STOPPING, MACHINE_STOP_S)
            elif countdown.phase is Phase.RUNNING and any(self._codes.values()):
                # No signal is sent: ranks elsewhere notice that their connections break.
                self._announce_failure()
                countdown.enter(Phase.REPORTING, REPORT_S)
            elif countdown.is_over():
                self._kill(running)
                # Killed again after this time, in case a machine did not receive the signal.
                countdown.enter(Phase.KILLED, REPORT_S)
            time.sleep(POLL_S)
        return self._codes

    def end(self) -> None:
        """End the remaining nodes: each stops its ranks when its input is closed."""
        # The end of its input stops a node even where a signal cannot reach it.
        for node in self._nodes.values():
            assert node.stdin is not None
            with contextlib.suppress(OSError):  # it ended without reading its last line
                node.stdin.close()
            node.wait()

    def _poll(self) -> list[str]:
        """Return the machines whose nodes are still running, and note the exit codes."""
        running = []
        for host, node in self._nodes.items():
            if host in self._codes:
                continue
            code = node.poll()
            if code is None:
                running.append(host)
            else:
                self._codes[host] = code
        return running

    def _announce_failure(self) -> None:
        reason = describe_failures(self._codes)[0]
        message = f"{reason}. The run ends on the other machines within {REPORT_S:.0f} s"
        say(message, error=True, flush=True)

    def _kill(self, hosts: Sequence[str]) -> None:
        self.signal(signal.SIGKILL)
        for host in hosts:
            say(f"{host} did not end in time and was killed", error=True, flush=True)


def describe_failures(codes: Mapping[str, int]) -> list[str]:
    """Describe the exit codes of the machines that failed, the first one first."""
    return [describe_exit(host, code) for host, code in codes.items() if code]


def describe_exit(host: str, code: int) -> str:
    """Describe the exit code of a machine's node."""
    if code == _SSH_CONNECTION_LOST:
        return f"the connection to {host} is lost"
    # Shells and nodes report a death by signal N as 128 + N, and Popen reports -N.
    if code > 128:
        return f"a rank on {host} was ended by {_signal_name(code - 128)}"
    if code < 0:  # the node itself was killed, and its ranks with it
        return f"a rank on {host} was ended by {_signal_name(-code)}"
    return f"the ranks on {host} ended with exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _forwarded_environment() -> dict[str, str]:
    forwarded = {}
    for name, value in os.environ.items():
        if name.startswith(FORWARDED_PREFIXES):
            forwarded[name] = value
    return forwarded


def _start_node(host: str, is_remote: bool) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlrec.runtime.node"]
    if is_remote:
        # The repository and its virtual environment have the same paths on all machines.
        folder = shlex.quote(os.getcwd())
        command = [*SSH, host, f"cd {folder} && exec {shlex.join(command)}"]
    # A session of its own: Ctrl-C in a terminal reaches the launcher alone, which passes it on.
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)


def _send(node: subprocess.Popen[str], line: str) -> None:
    assert node.stdin is not None
    # A node that has ended cannot be told anything; its exit code is noted by `wait`.
    with contextlib.suppress(OSError):
        node.stdin.write(line)
        node.stdin.flush()
