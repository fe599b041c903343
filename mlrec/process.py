"""How a command ends: one clear sentence and an exit code."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from mlrec.scrub import scrub

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


def run_main(main: Callable[[Sequence[str]], int | None], arguments: Sequence[str]) -> int:
    """Runs a command; its exit code: its own, 2 for bad input (ValueError), 1 for what went wrong (RuntimeError, OSError)."""
    try:
        return main(arguments) or 0
    except ValueError as error:
        if os.environ.get("RANK", "0") == "0":  # every rank found the same
            print(f"error: {scrub(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except (RuntimeError, OSError) as error:
        where = f" on rank {os.environ['RANK']}" if "RANK" in os.environ else ""
        print(f"error{where}: {scrub(str(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def asks_for_help(arguments: Sequence[str], usage: str) -> bool:
    """Whether -h or --help is among the arguments; the usage is printed then, and the command has done its work."""
    asked = "-h" in arguments or "--help" in arguments
    if asked:
        print(usage)
    return asked


def exit_with(code: int) -> NoReturn:
    """Ends this process.

    Threads of gloo that are still alive make the interpreter's shutdown abort now and then (once in 18 runs), after all work is
    done; a process that was a rank runs its exit handlers and leaves without the rest.
    """
    if "deepspeed" in sys.modules:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
