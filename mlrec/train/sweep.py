"""mlrec sweep: runs one after the other, each in its own process.

The same command resumes a sweep that was stopped.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.config.run_files import CONFIG_FILE, OUTPUT_FILE
from mlrec.runs import checkpoint
from mlrec.runs import compatibility as settings
from mlrec.runs.tracker import read_metrics, summary
from mlrec.runtime.ending import end_with_parent
from mlrec.runtime.progress import Task, task
from mlrec.runtime.redact import scrub
from mlrec.train.sweep_file import SweepRun

POLL_S = 1.0
"""Seconds between two looks at the progress of a run."""

_ERROR = re.compile(r"error\b|(\[rank\d+\]: )?[\w.]*(Error|Exception): ")
"""Beginning of the output line that says what went wrong: mlrec's message or a traceback's end."""


def final_metrics(run: Path) -> dict[str, float] | None:
    """Return the test metrics of a finished run by name, or None if it is not finished."""
    lines = [line for line in read_metrics(run) if "test/hr@10" in line]
    if not lines:
        return None
    metrics = {}
    for key, value in lines[-1].items():
        if key.startswith("test/"):
            metrics[key.removeprefix("test/")] = value
    return metrics


def check_unchanged(config: Config) -> None:
    """Check that a run's folder is empty, or holds the same run.

    Raises:
        ValueError: the run's folder holds checkpoints or results of a run with other settings.
    """
    run = config.run_path
    if not (run / CONFIG_FILE).exists() or (
        checkpoint.newest(run) is None and final_metrics(run) is None
    ):
        return  # nothing that another run's settings would be taken for
    if changed := settings.changes(config, settings.PLACES):
        raise ValueError(
            f"{run} holds a run with other settings ({changed}). "
            "Give the new run another name or run_dir, or remove the folder"
        )


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended."""

    name: str
    run_dir: str
    before: bool
    """Whether it was finished before this command."""
    hours: float
    """That it took within this command."""
    error: str
    """What went wrong; "" for nothing."""
    test: dict[str, float] | None
    """Metrics of the test split, by their names."""


def sweep(runs: Sequence[SweepRun], launcher: Sequence[str]) -> Iterator[Outcome]:
    """Train the runs one after the other, and yield how each ended; finished runs are skipped.

    Args:
        launcher: command that takes a run's files and key=value, and returns when the run ends.

    Raises:
        ValueError: the folder of a run holds another one; nothing was started.
    """
    for run in runs:
        check_unchanged(run.config)
    todo = [run for run in runs if final_metrics(run.config.run_path) is None]
    with task("runs", len(todo), _runs) as under_way:
        for run in runs:
            path, began, before = run.config.run_path, time.monotonic(), run not in todo
            error = "" if before else _start([*launcher, *run.arguments], run.config, under_way)
            result = final_metrics(path)
            if not error and result is None:
                error = f"it ended without test results; see {path / OUTPUT_FILE}"
            yield Outcome(
                run.config.name, str(path), before, (time.monotonic() - began) / 3600, error, result
            )


def _runs(amount: float) -> str:
    """Return a number of runs in words, where one may be partly done."""
    return f"{amount:.2f}".rstrip("0").rstrip(".")


def in_words(outcome: Outcome) -> str:
    """Return one line that says how a run ended."""
    if outcome.error or outcome.test is None:
        ending = f"failed: {outcome.error}"
    else:
        ending = f"HR@10 {outcome.test['hr@10']:.4f}  NDCG@10 {outcome.test['ndcg@10']:.4f}"
    duration = "finished before" if outcome.before else f"{60 * outcome.hours:.1f} min"
    return f"{outcome.name}  {ending}  {duration}"


def _start(command: Sequence[str], config: Config, under_way: Task) -> str:
    """Run a command to its end with its output in the run's folder; return its error, or ""."""
    run, before, sweep_process = config.run_path, under_way.done, os.getpid()
    run.mkdir(parents=True, exist_ok=True)
    with open(run / OUTPUT_FILE, "ab") as output:
        begin = output.tell()
        output.write(f"$ {scrub(shlex.join(command))}\n".encode())
        output.flush()
        try:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(sweep_process, signal.SIGTERM),
            )
        except OSError as error:
            raise ValueError(
                f"--launcher: {command[0]} cannot be started: {error.strerror}"
            ) from error
        try:
            begun, _ = _share_done(config)
            while (code := _ended(process)) is None:
                share, newest = _share_done(config)
                # a run that goes on is as long as what is left of it
                under_way.reach(
                    before + max(0.0, share - begun) / max(1e-9, 1 - begun),
                    f"{config.name}  {newest}",
                )
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # a launcher's ranks too
            process.wait()
            raise
    under_way.reach(before + 1)
    if code == 0:
        return ""
    lines = (run / OUTPUT_FILE).read_bytes()[begin:].decode(errors="replace").strip().splitlines()
    reason = next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1])
    return f"exit code {code}, {reason}; see {run / OUTPUT_FILE}"


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit code of a process that ends within POLL_S, else None."""
    try:
        return process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return None


def _share_done(config: Config) -> tuple[float, str]:
    """Return the share of a run that is done, from 0 to 1, and its newest figures, from its log."""
    lines = [line for line in read_metrics(config.run_path) if line.get("train/epoch")]
    if not lines:
        return 0.0, ""
    step, epoch = lines[-1]["step"], lines[-1]["train/epoch"]
    total_steps = steps_of(config.train.duration, max(1, round(step / epoch)), 0)
    return min(1.0, step / max(1, total_steps)), f"step {step}/{total_steps}  {summary(lines[-1])}"
