"""How a command ends: one clear sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from mlrec.runtime.ending import (
    CLEANUP_S,
    Stopped,
    kill_descendants,
    kill_workers,
    obey_signals,
    run_exit_handlers,
)
from mlrec.runtime.redact import scrub
from mlrec.runtime.terminal import nobody_reads, one_line, prepare_output, say

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130
"""128 and the number of SIGINT; SIGTERM's is 143."""

FAILURES = (RuntimeError, OSError, MemoryError, EOFError, subprocess.SubprocessError)
"""Built-in exceptions that files, devices, memory and other processes cause; the other ones are bugs."""

_WORKER_TRACEBACK = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\nOriginal Traceback")
_REMEDIES = {
    errno.ENOSPC: "free some space, or use another place",
    errno.EFBIG: "raise the limit of a file's size, for example with ulimit -f unlimited",
    errno.EMFILE: "raise the limit, for example with ulimit -n 4096",
}


def run_main(
    main: Callable[[Sequence[str]], int | None],
    arguments: Sequence[str],
    grace_s: float = CLEANUP_S,
) -> int:
    """Run a command and return its exit code.

    That is the command's own code, 2 for bad input (ValueError), 1 for a failure or a bug, 128 + N after signal N, or 141 when
    nobody reads the output any more. Failures print one sentence. Bugs print a traceback as well. Neither shows credentials.

    Args:
        grace_s: seconds that the command has to end after a stop signal.
    """
    prepare_output()
    with obey_signals(grace_s):
        try:
            return _run(main, arguments)
        except ValueError as error:
            if os.environ.get("RANK", "0") == "0":  # every rank found the same
                _tell(f"error: {one_line(scrub(_in_words(error)))}")
            code = BAD_INPUT
        except Exception as error:
            code = FAILED
            if isinstance(error, BrokenPipeError) and nobody_reads(sys.stdout):
                code = 128 + signal.SIGPIPE  # as `| head` ends other programs
            else:
                _report(error)
        except Stopped as stopped:
            code = 128 + stopped.number
        except KeyboardInterrupt:
            code = INTERRUPTED
        return code


def _run(main: Callable[[Sequence[str]], int | None], arguments: Sequence[str]) -> int:
    try:
        return main(arguments) or 0
    except BaseException:
        kill_workers()  # before the error releases what would wait for them
        raise


def _report(error: Exception) -> None:
    """Print the sentence of a failure, or the traceback of a bug."""
    sentence = _in_words(error)
    if not _is_failure(error):
        _tell(scrub("".join(traceback.format_exception(error))))
        sentence += ". This is a bug in mlrec; please report it with the traceback above"
    where = f" on rank {os.environ['RANK']}" if "RANK" in os.environ else ""
    _tell(f"error{where}: {one_line(scrub(sentence))}")


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more, or the log's disk is full
        say(text, error=True)


def _is_failure(error: Exception) -> bool:
    """Return whether the environment caused an error, not a mistake in this program.

    Libraries define exceptions of their own for files, networks and devices, such as safetensors for a full disk.
    """
    is_own = type(error).__module__.partition(".")[0] in ("builtins", "mlrec", "shards_tools")
    is_mistake = isinstance(error, NotImplementedError | RecursionError)
    return not is_own or (isinstance(error, FAILURES) and not is_mistake)


def _in_words(error: Exception) -> str:
    """Return an error's message as a sentence, with a remedy where one is known."""
    message = str(error)
    if _WORKER_TRACEBACK.match(message):  # its last line is the worker's error
        return f"in a loader worker: {_with_remedy(message.rstrip().splitlines()[-1])}"
    if "gloo/" in message or any(
        kind.__name__ == "DistError" for kind in type(error).__mro__
    ):  # gloo's are plain RuntimeErrors
        return f"another rank has ended or cannot be reached ({message.splitlines()[0]})"
    if isinstance(error, MemoryError):
        message = f"this machine's memory is full{message and f' ({message})'}; use a smaller batch, or fewer workers or ranks"
    elif not isinstance(error, ValueError | RuntimeError | OSError):
        message = f"{type(error).__name__}: {message}".removesuffix(": ")
    return _with_remedy(message) or type(error).__name__


def _with_remedy(message: str) -> str:
    """Return the message with what to do, where it ends with the system's words."""
    for number, remedy in _REMEDIES.items():
        if re.search(rf"{os.strerror(number)}( \(os error \d+\)|: \S+)?$", message):
            return f"{message}; {remedy}"
    return message


def asks_for_help(arguments: Sequence[str], usage: str) -> bool:
    """Whether -h or --help is among the arguments; the usage is printed then, and the command has done its work."""
    asked = "-h" in arguments or "--help" in arguments
    if asked:
        say(usage)
    return asked


def exit_with(code: int) -> NoReturn:
    """End this process with its children, without waiting for any of them.

    The interpreter's own shutdown would join threads and workers that may be stuck, and gloo's threads make it abort now and then
    (once in 18 runs). Exit handlers run, within EXIT_S.
    """
    kill_workers()
    run_exit_handlers(code)
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):  # nobody reads any more, or it was closed
        pass
    except OSError as error:
        _tell(f"error: standard output cannot be written: {error}")
        code = code or FAILED
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    kill_descendants()
    os._exit(code)
