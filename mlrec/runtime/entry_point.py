"""Runs a command: an error ends in one clear sentence and an exit code."""

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
"""Exit code after Ctrl-C: 128 and the number of SIGINT. SIGTERM's is 143."""

FAILURES = (RuntimeError, OSError, MemoryError, EOFError, subprocess.SubprocessError)
"""Built-in exceptions caused by files, devices, memory and other processes. Others are bugs."""

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

    That is the command's own code, 2 for bad input (ValueError), 1 for a failure or a bug, 128 + N
    after signal N, or 141 when nobody reads the output any more. Failures print one sentence. Bugs
    print a traceback as well. Neither shows credentials.

    Args:
        main: the command, called with its arguments.
        arguments: the command line.
        grace_s: seconds the command has to end after a stop signal.
    """
    prepare_output()
    with obey_signals(grace_s):
        try:
            return _run(main, arguments)
        except ValueError as error:
            # Every rank finds the same fault in its input; rank 0 prints it.
            if os.environ.get("RANK", "0") == "0":
                _print_error(f"error: {one_line(scrub(_in_words(error)))}")
            code = BAD_INPUT
        except Exception as error:
            code = FAILED
            if isinstance(error, BrokenPipeError) and nobody_reads(sys.stdout):
                code = 128 + signal.SIGPIPE  # as other programs end in `| head`
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
        # Before the error releases the loader: its destructor would wait for the workers.
        kill_workers()
        raise


def _report(error: Exception) -> None:
    """Print the sentence of a failure, or the traceback of a bug."""
    sentence = _in_words(error)
    if not _is_failure(error):
        _print_error(scrub("".join(traceback.format_exception(error))))
        sentence += ". This is a bug in mlrec; please report it with the traceback above"
    where = f" on rank {os.environ['RANK']}" if "RANK" in os.environ else ""
    _print_error(f"error{where}: {one_line(scrub(sentence))}")


def _print_error(text: str) -> None:
    # Nobody may read the output any more, or the disk of the log is full.
    with contextlib.suppress(OSError):
        say(text, error=True)


def _is_failure(error: Exception) -> bool:
    """Return whether the environment caused an error, rather than a mistake in this program."""
    # Libraries define their own exceptions for files, networks and devices: safetensors does so
    # for a full disk.
    is_own = type(error).__module__.partition(".")[0] in ("builtins", "mlrec", "shards_tools")
    is_mistake = isinstance(error, NotImplementedError | RecursionError)
    return not is_own or (isinstance(error, FAILURES) and not is_mistake)


def _in_words(error: Exception) -> str:
    """Return an error's message as a sentence, with a remedy where one is known."""
    message = str(error)
    if _WORKER_TRACEBACK.match(message):
        worker_error = message.rstrip().splitlines()[-1]
        return f"in a loader worker: {_with_remedy(worker_error)}"
    if _is_connection_error(error):
        return f"another rank has ended or cannot be reached ({message.splitlines()[0]})"
    if isinstance(error, MemoryError):
        details = f" ({message})" if message else ""
        message = (
            f"this machine's memory is full{details}; "
            "use a smaller batch, or fewer workers or ranks"
        )
    elif not isinstance(error, ValueError | RuntimeError | OSError):
        message = f"{type(error).__name__}: {message}".removesuffix(": ")
    return _with_remedy(message) or type(error).__name__


def _is_connection_error(error: Exception) -> bool:
    """Return whether the connection to another rank broke."""
    # gloo raises plain RuntimeErrors. DistError is torch's base of connection errors.
    is_dist_error = any(kind.__name__ == "DistError" for kind in type(error).__mro__)
    return is_dist_error or "gloo/" in str(error)


def _with_remedy(message: str) -> str:
    """Append what to do to a message that ends with a known error of the system."""
    for number, remedy in _REMEDIES.items():
        if re.search(rf"{os.strerror(number)}( \(os error \d+\)|: \S+)?$", message):
            return f"{message}; {remedy}"
    return message


def asks_for_help(arguments: Sequence[str], usage: str) -> bool:
    """Print the usage if -h or --help is among the arguments, and return whether it is.

    The command has nothing else to do then.
    """
    is_asked = "-h" in arguments or "--help" in arguments
    if is_asked:
        say(usage)
    return is_asked


def exit_with(code: int) -> NoReturn:
    """End this process with its children, without waiting for any of them.

    Exit handlers run, for at most EXIT_S.
    """
    # The interpreter's own shutdown would join threads and workers that may be stuck. With gloo's
    # threads it aborts now and then: once in 18 runs.
    kill_workers()
    run_exit_handlers(code)
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):  # nobody reads the output any more, or it was closed
        pass
    except OSError as error:
        _print_error(f"error: standard output cannot be written: {error}")
        code = code or FAILED
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    # Processes that are not daemons of multiprocessing, such as ranks and ssh.
    kill_descendants()
    os._exit(code)
