"""The program `mlrec` and its table of commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mlrec.cli import (
    bench,
    compare,
    completion,
    dashboard,
    evaluate,
    export,
    extract,
    plan,
    recommend,
    report,
    sweep,
    train,
)
from mlrec.cli import list as listing
from mlrec.cli.commands import Command, Program
from mlrec.runtime.entry_point import exit_with, run_main

# in the order of a project, as the help lists them: plan, train, look at results, serve, and the
# tools
COMMANDS: dict[str, Command] = {
    "plan": plan,
    "train": train,
    "sweep": sweep,
    "evaluate": evaluate,
    "export": export,
    "compare": compare,
    "extract": extract,
    "recommend": recommend,
    "report": report,
    "dashboard": dashboard,
    "bench": bench,
    "list": listing,
}

PROGRAM = Program(
    "mlrec",
    description="Train and serve content-driven video recommenders on packed data sets.",
    commands=COMMANDS,
    epilog="""With --json all commands but dashboard print one JSON document to standard output, and
nothing else there; train does so with --dry-run. Progress goes to standard error.
On several GPUs run deepspeed --module mlrec.train CONFIG ..., or torchrun -m mlrec.train CONFIG ...
Data sets are packed with mlrec-shards.""",
)


def run_command(words: Sequence[str]) -> int | None:
    """Run the command that `words` begin with, and return its exit code; None is 0.

    Raises:
        ValueError: the command is unknown, its command line does not fit, or its input is bad.
    """
    return PROGRAM.run(words)


def main() -> None:
    """Run `mlrec`, and end this process with its exit code."""
    if completion.is_requested():
        completion.complete(PROGRAM)
    exit_with(run_main(run_command, sys.argv[1:]))
