"""A minute of the fuzz driver, always the same mutations; tests/fuzzing says how to run more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing.kinds import KINDS

TESTS = Path(__file__).parents[1]
PENDING = {
    "dataset.json",
    "catalogue.parquet",
    "sequence shard",
    "item shard",
    "clip shard",
    "cached table",
    "failures.jsonl of a data set",
    "features",
    "features' settings",
}
"""Kinds whose readers do not check all that they read yet."""


def test_readers_mutated_files_end_in_a_sentence_or_an_equal_result(capsys: pytest.CaptureFixture[str]) -> None:
    # in a process of its own: cases are forked, and this one has threads
    command = [sys.executable, "-m", "fuzzing", "--seed", "1", "--cases", "500", "--seconds", "45", "--jobs", "2"]
    kinds = [word for kind in KINDS if kind.name not in PENDING for word in ("--kind", kind.name)]
    done = subprocess.run([*command, *kinds], cwd=TESTS, env=dict(os.environ), capture_output=True, text=True, timeout=120)
    with capsys.disabled():
        print(f"\n{(done.stdout.splitlines() or ['nothing'])[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
