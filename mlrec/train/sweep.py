"""mlrec sweep: runs one after the other, each in its own process.

The same command resumes a sweep that was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlrec.config import Config
from mlrec.config.metric_names import FINAL_PREFIXES, cutoffs_of, main_cutoff
from mlrec.config.run_files import CONFIG_FILE, OUTPUT_FILE
from mlrec.runs import checkpoint
from mlrec.runs import compatibility as settings
from mlrec.runs.metrics_file import read_metrics
from mlrec.runtime.progress import task
from mlrec.train.run_process import train_run
from mlrec.train.sweep_file import SweepRun


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
    ignored: tuple[str, ...] = settings.PLACES
    if config.train.precision == "auto":
        # This process does not know the ranks' devices. The run itself compares what auto is there.
        ignored = (*ignored, "train.precision")
    if changed := settings.changes(config, ignored):
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
    with task("runs", len(unfinished), runs_in_words) as under_way:
        for run in runs:
            path = run.config.run_path
            start_s = time.monotonic()
            error = ""
            if run in unfinished:
                error = train_run([*launcher, *run.launch_arguments], run.config, under_way)
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


def runs_in_words(amount: float) -> str:
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
