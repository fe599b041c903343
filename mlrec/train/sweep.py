"""mlrec sweep: the runs of a file one after the other, each a process of its own; the same command goes on after a stop."""

from __future__ import annotations

import difflib
import itertools
import math
import os
import re
import shlex
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mlrec import config as configuration
from mlrec.config import Config, as_value
from mlrec.config.durations import steps_of
from mlrec.config.run_files import CONFIG_FILE, OUTPUT_FILE
from mlrec.config.scalars import Node, Scalar, shown
from mlrec.config.values import typed
from mlrec.config.yaml_files import read_yaml
from mlrec.models.registry import check_rows
from mlrec.runs import checkpoint
from mlrec.runs import compatibility as settings
from mlrec.runs.tracker import read_metrics, summary
from mlrec.runtime.ending import end_with_parent
from mlrec.runtime.progress import Task, task
from mlrec.runtime.redact import scrub

MAX_RUNS = 10_000
"""Of a grid; more are a slip of the pen."""
POLL_S = 1.0
"""Between two looks at how far a run is."""

_ERROR = re.compile(r"error\b|(\[rank\d+\]: )?[\w.]*(Error|Exception): ")
"""How the line of a run's output begins that says what went wrong, its own sentence or that of a traceback."""


@dataclass(frozen=True)
class SweepFile:
    """The content of a sweep's file; paths are relative to it."""

    name: str = ""
    """Start of the names of the grid's runs; empty for the file's own name."""
    base: tuple[str, ...] = ()
    """Configuration files that the grid's runs share."""
    grid: dict[str, Node] = field(default_factory=dict)
    """Axes, of which every combination is a run. The points of one are {name: {key: value, ...}}, or a list of values of the
    key that the axis is named after; a run is named after its points."""
    runs: tuple[str, ...] = ()
    """Configuration files of further runs, one each, which come first."""


@dataclass(frozen=True)
class SweepRun:
    """One run: what the command line says, and the configuration that it means."""

    arguments: tuple[str, ...]
    config: Config


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> list[SweepRun]:
    """Return the runs of a sweep's file, `overrides` ("key=value") last in each.

    Raises:
        ValueError: the file or a configuration does not fit, one names an unknown row, or two runs have one name; the message
            names place and remedy.
    """
    content = _read(path)
    alone, shared = (
        [os.path.normpath(path.parent / file) for file in files]
        for files in (content.runs, content.base)
    )
    runs = [SweepRun((file, *overrides), _load(path, (file, *overrides))) for file in alone]
    axes = [list(_points(path, axis, given)) for axis, given in content.grid.items()]
    if math.prod(map(len, axes)) > MAX_RUNS:
        raise ValueError(
            f"{path}: the grid has {math.prod(map(len, axes)):,} runs; it must have at most {MAX_RUNS:,}"
        )
    for points in itertools.product(*axes):
        if not points:
            continue
        name = "_".join([content.name or path.stem, *(point for point, _ in points)])
        settings = [
            f"{key}={as_value(value, key)}" for _, keys in points for key, value in keys.items()
        ]
        arguments = (*shared, f"name={name}", *settings, *overrides)
        runs.append(SweepRun(arguments, _load(path, arguments)))
    if not runs:
        raise ValueError(f"{path} has no runs; give it files under runs, or base and grid")
    names = [str(run.config.run_path) for run in runs]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise ValueError(f"{path}: two runs have the folder {twice}; give each a name of its own")
    return runs


def _read(path: Path) -> SweepFile:
    content = read_yaml(path, "sweep")
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is a list; it must hold keys: {', '.join(f.name for f in fields(SweepFile))}"
        )
    kinds: dict[str, tuple[Any, str]] = {
        "name": (Scalar, "text"),
        "base": (list, "list of files"),
        "grid": (dict, "mapping"),
        "runs": (list, "list of files"),
    }
    for key, value in content.items():
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"a sweep has {', '.join(kinds)}"
            raise ValueError(f"{path}: unknown key {key!r}; {hint}")
        kind, words = kinds[key]
        if not isinstance(value, kind):
            raise ValueError(f"{path}: {key} is {shown(value)}; it must be a {words}")
    name, grid = content.get("name", Scalar("", quoted=True)), content.get("grid", {})
    assert isinstance(grid, dict)
    base, runs = (_files(content.get(key, []), f"{path}: {key}") for key in ("base", "runs"))
    return SweepFile(typed(name, str, f"{path}: name"), base, grid, runs)


def _files(node: Node, key: str) -> tuple[str, ...]:
    found: tuple[str, ...] = typed(node, tuple[str, ...], key)
    return found


def _points(path: Path, axis: str, given: Node) -> Iterator[tuple[str, dict[str, Node]]]:
    """The points of an axis: their names, as they are written, and the keys that they set."""
    points: list[tuple[str, Node]] = []
    if isinstance(given, list):
        points = [(as_value(value, axis), {axis: value}) for value in given]
    elif isinstance(given, dict):
        points = list(given.items())
    if not points or not all(isinstance(keys, dict) for _, keys in points):
        raise ValueError(
            f"{path}: grid.{axis} must be a list of values of that key, or {{name: {{key: value}}}} for each point"
        )
    for name, keys in points:
        assert isinstance(keys, dict)
        yield re.sub(r"[^\w.-]+", "-", name), keys


def _load(path: Path, arguments: Sequence[str]) -> Config:
    """The configuration of a run; what it names is looked up now, not when the run's turn comes."""
    try:
        config = configuration.load_arguments(arguments)
        check_rows(config)
        return config
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def final_metrics(run: Path) -> dict[str, float] | None:
    """The test metrics that a run logged at its end, by their names; None for a run that is not finished."""
    lines = [line for line in read_metrics(run) if "test/hr@10" in line]
    return (
        {
            key.removeprefix("test/"): value
            for key, value in lines[-1].items()
            if key.startswith("test/")
        }
        if lines
        else None
    )


def check_unchanged(config: Config) -> None:
    """
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
            f"{run} holds a run with other settings ({changed}): give the new one another name or run_dir, or remove the folder"
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
    """Brings the runs to their ends, one after the other; those that are there already are left as they are.

    Args:
        launcher: the command that takes a run's files and key=value, and comes back when the run has ended.

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
    """A number of runs, of which one may be on its way."""
    return f"{amount:.2f}".rstrip("0").rstrip(".")


def in_words(outcome: Outcome) -> str:
    found = outcome.test or {}
    said = (
        f"failed: {outcome.error}"
        if outcome.error
        else f"HR@10 {found['hr@10']:.4f}  NDCG@10 {found['ndcg@10']:.4f}"
    )
    return f"{outcome.name}  {said}  {'finished before' if outcome.before else f'{60 * outcome.hours:.1f} min'}"


def _start(command: Sequence[str], config: Config, under_way: Task) -> str:
    """Runs a command to its end with its output in the run's folder; what it says went wrong, "" for nothing."""
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
    said = next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1])
    return f"exit code {code}, {said}; see {run / OUTPUT_FILE}"


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that ends within POLL_S."""
    try:
        return process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return None


def _share_done(config: Config) -> tuple[float, str]:
    """How much of a run is done, from 0 to 1, and its newest figures, by what it has logged."""
    lines = [line for line in read_metrics(config.run_path) if line.get("train/epoch")]
    if not lines:
        return 0.0, ""
    step, epoch = lines[-1]["step"], lines[-1]["train/epoch"]
    total_steps = steps_of(config.train.duration, max(1, round(step / epoch)), 0)
    return min(1.0, step / max(1, total_steps)), f"step {step}/{total_steps}  {summary(lines[-1])}"
