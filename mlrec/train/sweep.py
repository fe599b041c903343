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
from typing import IO, NamedTuple

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.config.metric_names import FINAL_PREFIXES, cutoffs_of, main_cutoff
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


def final_metrics(run: Path, split: str = "test") -> dict[str, float] | None:
    """Return the metrics of a finished run by name, or None if it is not finished.

    Args:
        split: evaluate.final_split of the run.
    """
    prefix = FINAL_PREFIXES[split]
    metrics = None
    # A run that was resumed at its end has several such lines: the last one counts.
    for line in read_metrics(run):
        final = {}
        for key, value in line.items():
            if key.startswith(prefix):
                final[key.removeprefix(prefix)] = value
        metrics = final or metrics
    return metrics


def check_unchanged(config: Config) -> None:
    """Check that a run's folder is empty, or holds the same run.

    Raises:
        ValueError: the run's folder holds checkpoints or results of a run with other settings.
    """
    run = config.run_path
    if not (run / CONFIG_FILE).exists():
        return
    # A run that has neither trained nor been ranked may still change its settings.
    if checkpoint.newest(run) is None and _final_metrics(config) is None:
        return
    if changed := settings.changes(config, settings.PLACES):
        raise ValueError(
            f"{run} holds a run with other settings ({changed}). "
            "Give the new run another name or run_dir, or remove the folder"
        )


@dataclass(frozen=True)
class Outcome:
    """Result of a run of a sweep."""

    name: str
    run_dir: str
    before: bool
    """Whether the run was finished before this command."""
    hours: float
    """Duration of the run within this command (hours)."""
    error: str
    """Reason why the run failed; empty if it did not."""
    test: dict[str, float] | None
    """Metrics of the test split by name; None if the run is not finished."""
    validation: dict[str, float] | None = None
    """The same of the validation split, for a run with evaluate.final_split=validation."""


class Progress(NamedTuple):
    """Progress of a run, as its log tells it."""

    share: float
    """Share of the run's steps that are done, from 0 to 1."""
    figures: str
    """Newest figures of the run, in words; empty before the first log line."""


def sweep(runs: Sequence[SweepRun], launcher: Sequence[str]) -> Iterator[Outcome]:
    """Train the runs one after the other, and yield how each ended; finished runs are skipped.

    Args:
        launcher: command that takes a run's files and key=value, and returns when the run ends.

    Raises:
        ValueError: the folder of a run holds another one; nothing was started.
    """
    # All runs are checked before the first one trains for hours.
    for run in runs:
        check_unchanged(run.config)
    unfinished = [run for run in runs if _final_metrics(run.config) is None]
    with task("runs", len(unfinished), _runs) as under_way:
        for run in runs:
            path = run.config.run_path
            start_s = time.monotonic()
            error = ""
            if run in unfinished:
                error = _train([*launcher, *run.arguments], run.config, under_way)
            split = run.config.evaluate.final_split
            metrics = _final_metrics(run.config)
            # A launcher that only submits a job returns before the run has ended.
            if not error and metrics is None:
                error = f"it ended without {split} results; see {path / OUTPUT_FILE}"
            yield Outcome(
                name=run.config.name,
                run_dir=str(path),
                before=run not in unfinished,
                hours=(time.monotonic() - start_s) / 3600,
                error=error,
                test=metrics if split == "test" else None,
                validation=metrics if split == "validation" else None,
            )


def _final_metrics(config: Config) -> dict[str, float] | None:
    return final_metrics(config.run_path, config.evaluate.final_split)


def _runs(amount: float) -> str:
    """Return a number of runs in words, where one may be partly done."""
    return f"{amount:.2f}".rstrip("0").rstrip(".")


def in_words(outcome: Outcome) -> str:
    """Return one line that says how a run ended."""
    metrics = outcome.test or outcome.validation
    if outcome.error or metrics is None:
        ending = f"failed: {outcome.error}"
    else:
        cutoff = main_cutoff(cutoffs_of(metrics))
        split = "" if outcome.test else "validation "
        ending = f"{split}HR@{cutoff} {metrics[f'hr@{cutoff}']:.4f}"
        ending += f"  NDCG@{cutoff} {metrics[f'ndcg@{cutoff}']:.4f}"
    duration = "finished before" if outcome.before else f"{60 * outcome.hours:.1f} min"
    return f"{outcome.name}  {ending}  {duration}"


def _train(command: Sequence[str], config: Config, under_way: Task) -> str:
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
    return Progress(share, f"step {step}/{total_steps}  {summary(lines[-1])}")
