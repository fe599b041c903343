"""A run in a process of its own: its output in the run's folder, and its progress from its log."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Sequence
from typing import IO, NamedTuple

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.config.item_units import item_unit
from mlrec.config.run_files import OUTPUT_FILE
from mlrec.runs.metrics_file import read_metrics
from mlrec.runs.tracker import summary
from mlrec.runtime.ending import end_with_parent
from mlrec.runtime.progress import Task
from mlrec.runtime.redact import scrub

POLL_S = 1.0
"""Seconds between two looks at the progress of a run."""

_ERROR = re.compile(r"error\b|(\[rank\d+\]: )?[\w.]*(Error|Exception): ")
"""Beginning of the output line that says what went wrong: mlrec's message or a traceback's end."""


class Progress(NamedTuple):
    """Progress of a run, as its log tells it."""

    share: float
    """Share of the run's steps that are done, from 0 to 1."""
    figures: str
    """Newest figures of the run, in words; empty before the first log line."""


def train_run(command: Sequence[str], config: Config, under_way: Task) -> str:
    """Run a command to its end with its output in the run's folder; return its error, or ""."""
    config.run_path.mkdir(parents=True, exist_ok=True)
    output_path = config.run_path / OUTPUT_FILE
    runs_before = under_way.done
    # Appended, because a resumed run keeps the output of its earlier commands.
    with open(output_path, "ab") as output:
        output_start = output.tell()
        output.write(f"$ {scrub(shlex.join(command))}\n".encode())
        output.flush()
        process = _launch(command, output)
        try:
            exit_code = _wait(process, config, under_way)
        except BaseException:
            # To the whole process group, because a launcher's ranks must stop too.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    under_way.reach(runs_before + 1)
    if exit_code == 0:
        return ""
    output_text = output_path.read_bytes()[output_start:].decode(errors="replace")
    reason = _error_line(output_text.strip().splitlines())
    return f"exit code {exit_code}, {reason}; see {output_path}"


def _launch(command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, which ends with this process.

    Raises:
        ValueError: the command does not exist.
    """
    sweep_process = os.getpid()
    try:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: end_with_parent(sweep_process, signal.SIGTERM),
        )
    except OSError as error:
        raise ValueError(f"--launcher: {command[0]} cannot be started: {error.strerror}") from error


def _wait(process: subprocess.Popen[bytes], config: Config, under_way: Task) -> int:
    """Wait for the end of a run, report its progress, and return its exit code."""
    runs_before = under_way.done
    share_at_start = _progress(config).share
    while True:
        try:
            return process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            progress = _progress(config)
        # For a resumed run, the steps that remained at its start are the whole.
        new_share = max(0.0, progress.share - share_at_start)
        run_share = new_share / max(1e-9, 1 - share_at_start)
        under_way.reach(runs_before + run_share, f"{config.name}  {progress.figures}")


def _error_line(lines: Sequence[str]) -> str:
    """Return the last line that names an error, or the last line if none does."""
    for line in reversed(lines):
        if _ERROR.match(line):
            return line
    return lines[-1]


def _progress(config: Config) -> Progress:
    """Return the progress of a run from its log."""
    lines = [line for line in read_metrics(config.run_path) if line.get("train/epoch")]
    if not lines:
        return Progress(0.0, "")
    step = lines[-1]["step"]
    # The log has no number of steps per epoch, but the epoch of a step.
    steps_per_epoch = max(1, round(step / lines[-1]["train/epoch"]))
    total_steps = steps_of(config.train.duration, steps_per_epoch, 0)
    share = min(1.0, step / max(1, total_steps))
    shown = summary(lines[-1], item_unit(config.item.encoders))
    return Progress(share, f"step {step}/{total_steps}  {shown}")
