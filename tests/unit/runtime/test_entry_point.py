"""The exit code and the sentence with which a command ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
import torch.distributed as dist
from safetensors import SafetensorError

from mlrec.runtime.ending import Stopped
from mlrec.runtime.entry_point import run_main


def command_that_raises(error: BaseException | None) -> Callable[[Sequence[str]], int | None]:
    """Return a command that raises the error, or does nothing."""

    def main(arguments: Sequence[str]) -> int | None:
        if error is not None:
            raise error
        return None

    return main


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (None, 0, ""),
        (ValueError("lr is 'x'"), 2, "error: lr is 'x'\n"),
        (OSError("no room"), 1, "error: no room\n"),
        (Stopped(15), 143, ""),
        (KeyboardInterrupt(), 130, ""),
        (
            OSError(28, "No space left on device", "a"),
            1,
            "No space left on device: 'a'; free some space, or use another place\n",
        ),
        (
            OSError(24, "Too many open files"),
            1,
            "Too many open files; raise the limit, for example with ulimit -n 4096\n",
        ),
        (
            SafetensorError("I/O error: No space left on device (os error 28)"),
            1,
            "error: SafetensorError: I/O error: No space",
        ),
        (
            MemoryError(),
            1,
            "error: this machine's memory is full; "
            "use a smaller batch, or fewer workers or ranks\n",
        ),
        (
            subprocess.TimeoutExpired("ssh", 3),
            1,
            "error: TimeoutExpired: Command 'ssh' timed out after 3 seconds\n",
        ),
        (
            KeyError("s3://me:pw@host/x"),
            1,
            "error: KeyError: 's3://***@host/x'. This is a bug in mlrec; please report it",
        ),
        (NotImplementedError("later"), 1, "This is a bug in mlrec"),
        (
            RuntimeError("[gloo/transport/tcp/pair.cc:5] Connection closed by peer"),
            1,
            "another rank has ended or cannot be reached",
        ),
        (
            dist.DistBackendError("NCCL error\nat line 5"),
            1,
            "another rank has ended or cannot be reached (NCCL error)\n",
        ),
    ],
)
def test_run_main_with_an_error_returns_its_code_and_prints_its_sentence(
    error: BaseException | None, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(command_that_raises(error), []) == code
    printed = capsys.readouterr().err
    assert sentence in printed
    assert bool(sentence) == bool(printed)
    assert ("Traceback" in printed) == ("This is a bug" in sentence)
    assert "pw" not in printed


LONG_OUTPUT = """
import sys
from mlrec.runtime.entry_point import exit_with, run_main
from mlrec.runtime.terminal import console
show = {"print": lambda text: print(text, flush=True), "console": console().print}[sys.argv[1]]
exit_with(run_main(lambda _: show('x' * 200_000), []))
"""


@pytest.mark.parametrize("way", ["print", "console"])
def test_run_main_without_a_reader_of_its_output_ends_silently(way: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LONG_OUTPUT, way], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=30)
    assert errors == b""
    assert process.returncode == 141


CLOSED_OUTPUT = """
import os, sys
if len(sys.argv) == 2:
    os.closerange(0, 3)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], "closed", "again"])
from mlrec.runtime.entry_point import exit_with, run_main
exit_with(run_main(lambda words: print("done") or 3, []))
"""


def test_exit_with_closed_output_keeps_the_exit_code() -> None:
    command = [sys.executable, "-c", CLOSED_OUTPUT, CLOSED_OUTPUT]
    assert subprocess.run(command, check=False).returncode == 3
