"""A minute of the fuzz driver, always the same mutations; tests/fuzzing says how to run more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def test_readers_mutated_files_give_an_error_or_an_equal_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # in a process of its own: cases are forked, and this one has threads
    command = [
        sys.executable,
        "-m",
        "fuzzing",
        "--seed",
        "1",
        "--cases",
        "500",
        "--seconds",
        "45",
        "--jobs",
        "2",
    ]
    done = subprocess.run(
        command, cwd=TESTS, env=dict(os.environ), capture_output=True, text=True, timeout=120
    )
    with capsys.disabled():
        print(f"\n{(done.stdout.splitlines() or ['nothing'])[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
