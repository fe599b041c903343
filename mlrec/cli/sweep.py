"""mlrec sweep."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import say

HELP = "Train the runs or trials of a file one by one; the same command resumes after a stop."
DESCRIPTION = """\
A file lists experiments with seeds or values, or describes a search of keys with Optuna. All
configurations are checked before the first run starts. Failed runs are tried again by the same
command."""
EXAMPLE = """\
mlrec sweep configs/sweep/synthetic_encoders.yaml train.duration='12 epochs'"""

# the interpreter of this environment, whatever PATH holds
LAUNCHER = (sys.executable, "-m", "mlrec.train")


def add_arguments(parser: Parser) -> None:
    """Add the file of a sweep, settings of all runs, and the launcher."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="YAML file of a sweep or search, such as those in configs/sweep",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings that override those of all runs (default: none)",
    )
    parser.add_argument(
        "--launcher",
        default="",
        metavar="COMMAND",
        help="command that starts a run, given its CONFIG and key=value "
        '(default: one process; "bash launch/local.sh" uses all GPUs)',
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Train the runs, or the trials of a search, and print each outcome when its run ends.

    Raises:
        RuntimeError: runs failed; the others are done.
    """
    from mlrec.runtime.ending import Stopped
    from mlrec.train.sweep_file import read_content

    try:
        if read_content(options.file).search is not None:
            _search(options)
        else:
            _sweep(options)
    except (KeyboardInterrupt, Stopped):
        with contextlib.suppress(OSError):  # the terminal may be gone
            say("stopped: run the same command again to continue", error=True)
        raise


def launcher_of(options: argparse.Namespace) -> Sequence[str]:
    """Return the words of the command that starts a run."""
    return shlex.split(options.launcher) or LAUNCHER


def _sweep(options: argparse.Namespace) -> None:
    from mlrec.runtime.ending import END_S, grace
    from mlrec.train.sweep import in_words, sweep
    from mlrec.train.sweep_file import read_sweep

    # reads and checks the configurations of all runs before the first one starts
    runs = read_sweep(options.file, options.overrides)
    outcomes = []
    with grace(END_S):  # a run that is stopped saves a checkpoint first
        for place, outcome in enumerate(sweep(runs, launcher_of(options)), start=1):
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


def _search(options: argparse.Namespace) -> None:
    from mlrec.runtime.ending import END_S, grace
    from mlrec.train.search import in_words, read_plan, run_search, write_best

    # reads and checks every value that a trial may have before the first one starts
    plan = read_plan(options.file, options.overrides)
    outcomes = []
    with grace(END_S):  # a trial that is stopped saves a checkpoint first
        for outcome in run_search(plan, launcher_of(options)):
            outcomes.append(outcome)
            if not options.json:
                place = f"[{len(outcomes)}/{plan.search.trials}]"
                say(f"{place} {in_words(outcome, plan.metric)}", flush=True)
    if len(outcomes) < plan.search.trials:
        say(
            f"The search ends after {len(outcomes)} of {plan.search.trials} trials: search.keys "
            "has no combination of values that was not tried",
            error=True,
        )
    best = write_best(plan, outcomes)
    if options.json:
        trials = [asdict(outcome) for outcome in outcomes]
        document = {"metric": best.metric, "best": best.trial.name, "file": str(best.file)}
        print_json(document | {"trials": trials})
        return
    say(f"best: {in_words(replace(best.trial, before=False), plan.metric)}")
    say(
        f"its configuration is {best.file}; "
        f"for the final run: mlrec train {shlex.quote(str(best.file))}"
    )
