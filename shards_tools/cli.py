"""The program `mlrec-shards` and its table of commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mlrec.cli import completion
from mlrec.cli.commands import Command, Program
from mlrec.runtime.ending import Stopped
from mlrec.runtime.entry_point import exit_with, run_main
from mlrec.runtime.terminal import say
from shards_tools.commands import bench, check, download, make, push, repair, show, synthetic

# in the order in which a newcomer needs them, which is that of the help
COMMANDS: dict[str, Command] = {
    "synthetic": synthetic,
    "download": download,
    "make": make,
    "push": push,
    "check": check,
    "repair": repair,
    "show": show,
    "bench": bench,
}

PROGRAM = Program(
    "mlrec-shards",
    description="Pack raw MicroLens folders into WebDataset shards.",
    commands=COMMANDS,
    epilog="""With --json all commands but synthetic print one JSON document to standard output,
and nothing else there. Progress goes to standard error: a bar on a terminal, elsewhere a line
now and then.""",
)


def run_command(words: Sequence[str]) -> int | None:
    """Run the command that `words` begin with, and return its exit code; None is 0.

    Raises:
        ValueError: the command is missing or unknown, its arguments do not fit, or its input is
            bad.
    """
    # exit code 2, unlike mlrec, whose help this would print
    if not words:
        raise ValueError(
            f"no command. Choose one of {', '.join(COMMANDS)}; see: mlrec-shards --help"
        )
    try:
        return PROGRAM.run(words)
    except (KeyboardInterrupt, Stopped):
        # true of every command: what is complete is never done again
        say("stopped; the same command goes on from here", error=True)
        raise


def main(words: Sequence[str] | None = None) -> int:
    """Run `mlrec-shards` and return its exit code.

    Args:
        words: Command line. None takes that of this process, and ends the process.

    Returns:
        0 for success, 1 for a failure or for faults that were found, 2 for bad input, 130 for
        Ctrl-C.
    """
    if words is None and completion.is_requested():
        completion.complete(PROGRAM)
    code = run_main(run_command, sys.argv[1:] if words is None else words)
    if words is None:
        exit_with(code)
    return code


if __name__ == "__main__":
    main()
