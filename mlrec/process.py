"""How a command ends: one clear sentence and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from mlrec.scrub import scrub
from mlrec.terminal import one_line, prepare_output, say

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130
"""128 and the number of SIGINT; SIGTERM's is 143."""
STOP_S = 40.0
"""A run that was told to stop has so long for its step and its checkpoint; DeepSpeed's launcher and torchrun give it 30 s."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """A command was told to stop by a signal, and has left everything in order."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_main(main: Callable[[Sequence[str]], int | None], arguments: Sequence[str]) -> int:
    """Runs a command; its exit code.

    It is the command's own, 2 for bad input (ValueError), 1 for what went wrong (RuntimeError, OSError), and 128 with
    the number of the signal that stopped it added.
    """
    prepare_output()
    try:
        return main(arguments) or 0
    except ValueError as error:
        if os.environ.get("RANK", "0") == "0":  # every rank found the same
            say(f"error: {one_line(scrub(str(error)))}", error=True)
        return BAD_INPUT
    except (RuntimeError, OSError) as error:
        where = f" on rank {os.environ['RANK']}" if "RANK" in os.environ else ""
        say(f"error{where}: {one_line(scrub(_in_words(error)))}", error=True)
        return FAILED
    except Stopped as stopped:
        return 128 + stopped.number
    except KeyboardInterrupt:
        return INTERRUPTED


def _in_words(error: Exception) -> str:
    """What an error says; of one between ranks, that the fault is another one's."""
    said = str(error)
    if "gloo/" in said or any(kind.__name__ == "DistError" for kind in type(error).__mro__):  # gloo's are plain RuntimeErrors
        return f"another rank has ended or cannot be reached ({said.splitlines()[0]})"
    return said


def asks_for_help(arguments: Sequence[str], usage: str) -> bool:
    """Whether -h or --help is among the arguments; the usage is printed then, and the command has done its work."""
    asked = "-h" in arguments or "--help" in arguments
    if asked:
        say(usage)
    return asked


def exit_with(code: int) -> NoReturn:
    """Ends this process.

    Threads of gloo that are still alive make the interpreter's shutdown abort now and then (once in 18 runs), after all work is
    done; a process that was a rank runs its exit handlers and leaves without the rest.
    """
    if "deepspeed" in sys.modules:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads any more
                stream.flush()
        os._exit(code)
    sys.exit(code)
