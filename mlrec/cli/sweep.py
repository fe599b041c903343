"""mlrec sweep."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import say

HELP = "Train the runs of a file one after another; the same command resumes after a stop."

# the interpreter of this environment, whatever PATH holds
LAUNCHER = (sys.executable, "-m", "mlrec.train")


def add_arguments(parser: Parser) -> None:
    """Add the file of a sweep, settings of all runs, and the launcher."""
    parser.add_argument("file", type=Path, metavar="FILE", help="one of configs/sweep")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that override those of all runs"
    )
    parser.add_argument(
        "--launcher",
        default=shlex.join(LAUNCHER),
        metavar="COMMAND",
        help="command that starts a run, given its CONFIG and key=value "
        '(default: one process; "bash launch/local.sh" uses all GPUs)',
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Train the runs, and print each outcome when its run ends.

    Raises:
        RuntimeError: runs failed; the others are done.
    """
    from mlrec.runtime.ending import END_S, grace
    from mlrec.train.sweep import in_words, sweep
    from mlrec.train.sweep_file import read_sweep

    # reads and checks the configurations of all runs before the first one starts
    runs = read_sweep(options.file, options.overrides)
    outcomes = []
    with grace(END_S):  # a run that is stopped saves a checkpoint first
        for place, outcome in enumerate(sweep(runs, shlex.split(options.launcher)), start=1):
            outcomes.append(outcome)
            # a run may take hours: the line must not wait in a buffer
            if not options.json:
                say(f"[{place}/{len(runs)}] {in_words(outcome)}", flush=True)
    if options.json:
        print_json([asdict(outcome) for outcome in outcomes])
    # the exit code is for scripts, which must see a failure after the other runs are done
    failed = [outcome.name for outcome in outcomes if outcome.error]
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}. "
            "Run the same command to try them again"
        )
