"""Starts a run on this machine or on the machines of a hostfile, and ends it on all of them.

launch/local.sh and launch/multinode.sh call `python -m mlrec.runtime.launcher`. Every machine gets
a `mlrec.runtime.node`, over ssh if it is another machine, and the node starts the ranks there.
Phases and time limits are in `mlrec.runtime.phases`.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlrec.runtime.ending import END_S
from mlrec.runtime.entry_point import BAD_INPUT, asks_for_help, exit_with, run_main
from mlrec.runtime.hosts import reachable_addresses, read_hostfile
from mlrec.runtime.machines import Machines, StopSignals, describe_failures
from mlrec.runtime.terminal import say

USAGE = (
    "usage: python -m mlrec.runtime.launcher HOSTFILE|localhost:RANKS [--elastic] "
    "CONFIG [CONFIG ...] [key=value ...]\n"
    "\n"
    "  --elastic   after a failure, restart on the machines of the hostfile that still answer ssh"
)
MAX_CONSECUTIVE_FAILURES = 3
"""An elastic run that fails this many times in a row is not restarted."""
LASTING_START_S = 600.0
"""A start that lasted longer than this resets the count of consecutive failures."""


@dataclass(frozen=True)
class Launch:
    """A run to start: its machines, its arguments, and what to do after a failure."""

    slots: Mapping[str, int]
    """Number of ranks by machine."""
    arguments: Sequence[str]
    """Arguments of `mlrec train`."""
    over_ssh: bool
    """Whether the machines are reached over ssh; False for this machine alone."""
    elastic: bool
    """Whether to restart after a failure, on the machines that still answer."""

    def run(self, stop: StopSignals) -> int:
        """Run the training to its end, restarting it if elastic, and return the exit code.

        Raises:
            ValueError: a machine does not answer ssh, and the run is not elastic.
            RuntimeError: the run failed; if elastic, MAX_CONSECUTIVE_FAILURES times in a row.
        """
        failures = 0
        while True:
            started_at = time.monotonic()
            codes = self._run_once(stop)
            if not any(codes.values()):
                return 0
            # After a stop the ranks' exit codes are those of the signal, which is no failure.
            if stop.first:
                return 128 + stop.first
            if BAD_INPUT in codes.values():
                # Every rank met the fault and rank 0 printed it. A restart would meet it again.
                return BAD_INPUT
            # A run that trained for a while before it failed made progress: count afresh.
            lasted_s = time.monotonic() - started_at
            failures = 1 if lasted_s > LASTING_START_S else failures + 1
            self._check_restart(failures, "; ".join(describe_failures(codes)))

    def _run_once(self, stop: StopSignals) -> dict[str, int]:
        """Start the machines that answer, wait for their end, and return their exit codes."""
        # Asked before every start: a machine may be down, or have come back.
        addresses = reachable_addresses(list(self.slots)) if self.over_ssh else None
        slots = self._usable_slots(addresses)
        machines = Machines(slots, addresses, self.arguments)
        try:
            return machines.wait(stop)
        finally:
            # After an error here, too, no machine may keep training.
            machines.end()

    def _usable_slots(self, addresses: Mapping[str, str] | None) -> dict[str, int]:
        if addresses is None:
            return dict(self.slots)
        usable = {host: count for host, count in self.slots.items() if host in addresses}
        missing = [host for host in self.slots if host not in addresses]
        if not missing:
            return usable
        names = ", ".join(missing)
        if not (self.elastic and usable):
            raise ValueError(
                f"{names} of the hostfile cannot be reached by ssh without a password. "
                f"Try: ssh {missing[0]} true"
            )
        say(f"{names} cannot be reached: starting on {', '.join(usable)}", error=True, flush=True)
        return usable

    def _check_restart(self, failures: int, reasons: str) -> None:
        """Announce the restart of an elastic run, or raise RuntimeError where there is none."""
        if self.elastic and failures < MAX_CONSECUTIVE_FAILURES:
            say(f"{reasons}: restarting from the last checkpoint", error=True, flush=True)
            return
        how_often = f" {failures} times in a row" if self.elastic else ""
        raise RuntimeError(
            f"the run has failed{how_often}: {reasons}. "
            "Run the same command again to resume from the last checkpoint"
        )


def main(arguments: Sequence[str]) -> int:
    """Start a run: WHERE [--elastic] CONFIG [CONFIG ...] [key=value ...]."""
    if asks_for_help(arguments, USAGE):
        return 0
    launch = parse_arguments(arguments)
    with StopSignals().listening() as stop:
        return launch.run(stop)


def parse_arguments(arguments: Sequence[str]) -> Launch:
    """Return the run that the command line describes.

    Raises:
        ValueError: an argument is missing or unknown; the message is the usage.
    """
    if not arguments:
        raise ValueError(USAGE)
    where = arguments[0]
    elastic = "--elastic" in arguments[1:]
    train_arguments = [argument for argument in arguments[1:] if argument != "--elastic"]
    local = re.fullmatch(r"localhost:([1-9]\d*)", where)
    has_unknown_option = any(argument.startswith("-") for argument in (where, *train_arguments))
    # One machine cannot continue without itself, so localhost is never elastic.
    if not train_arguments or has_unknown_option or (local and elastic):
        raise ValueError(USAGE)
    slots = {"localhost": int(local[1])} if local else read_hostfile(Path(where))
    return Launch(slots, train_arguments, over_ssh=local is None, elastic=elastic)


if __name__ == "__main__":
    exit_with(run_main(main, sys.argv[1:], grace_s=END_S))
