"""Runs: train and evaluate them, and read what they left in their folder."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlrec.api.settings import (
    AnyConfig,
    Settings,
    as_config,
    as_overrides,
    as_place,
    check_split,
)
from mlrec.config import Config
from mlrec.config.paths import with_absolute_paths
from mlrec.config.run_files import CHECKPOINTS, WEIGHTS_FILE
from mlrec.data.format import Split
from mlrec.data.stream import open_data
from mlrec.evaluation.results import Results, read_results
from mlrec.evaluation.run_evaluation import evaluate_run
from mlrec.runs.metrics_file import read_metrics
from mlrec.runs.run import load_run, load_trained
from mlrec.runtime.distributed import lone_world, num_ranks, stop_world
from mlrec.runtime.ending import Stopped

_GROUP_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "GLOO_SOCKET_IFNAME",
    "NCCL_SOCKET_IFNAME",
)
"""Environment variables that the start of a process group sets."""
_training = threading.Lock()
"""Held while a run is trained: a process has one process group and one random number generator."""


class Run:
    """The folder of a run, which `mlrec.train` returns.

    Example:
        >>> run = mlrec.Run("runs/quickstart_video")
        >>> run.results.metrics["cold"]["hr@10"]
        >>> losses = [line["train/loss"] for line in run.log if "train/loss" in line]
    """

    def __init__(self, path: str | Path) -> None:
        """Open the folder of a run.

        Raises:
            ValueError: the folder is not a run.
        """
        self.path = Path(as_place("path", path))
        """Folder of the run, an absolute path."""
        if (self.path / WEIGHTS_FILE).is_file() and not (self.path / CHECKPOINTS).exists():
            raise ValueError(f"{path} is an export, not a run. Load it with mlrec.load")
        self.config: Config = with_absolute_paths(load_run(self.path))
        """The resolved configuration, with the values that `auto` stood for."""

    @property
    def results(self) -> Results | None:
        """The run's last full ranking, as `mlrec.evaluate` returns it; None before the first.

        Raises:
            ValueError: results.json is damaged.
        """
        return read_results(self.path)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Logged lines, oldest first; a line has `step`, `time` (seconds since 1970) and metrics.

        Metrics are floats by name, such as train/loss and validation/hr@10; None if not finite.

        Raises:
            ValueError: metrics.jsonl is damaged.
        """
        return read_metrics(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"mlrec.Run({str(self.path)!r})"


def train(config: AnyConfig, settings: Settings | None = None) -> Run:
    """Train a run to its end in this process, and rank its best checkpoint.

    The configuration is a YAML file, a list of files, of which later ones
    win, a dict of settings, or a Config. The same call resumes a run.

    Raises:
        ValueError: configuration, data set or checkpoints do not fit.
        RuntimeError: it diverged, items are unreadable, or a thread trains.

    Example:
        >>> run = mlrec.train("my.yaml", {"train.duration": "2 epochs"})
    """
    resolved = as_config(config, settings)
    # takes DeepSpeed's seconds, and a slip in the configuration is reported before
    from mlrec.train.loop import train as train_to_end

    with _one_training(), _own_group():
        train_to_end(resolved)
    return Run(resolved.run_path)


@contextmanager
def _one_training() -> Iterator[None]:
    """Let one thread at a time train.

    Raises:
        RuntimeError: another one does.
    """
    if not _training.acquire(blocking=False):
        raise RuntimeError(
            "This process trains another run already. Wait for its end, or train in another process"
        )
    try:
        yield
    finally:
        _training.release()


@contextmanager
def _own_group() -> Iterator[None]:
    """Leave neither a process group of one nor its environment variables behind."""
    before = {name: os.environ.get(name) for name in _GROUP_VARIABLES}
    try:
        yield
    except Stopped as stopped:
        # The step is saved. A notebook that is interrupted stops this cell alone.
        if stopped.number == signal.SIGINT:
            raise KeyboardInterrupt from stopped
        raise SystemExit(128 + stopped.number) from stopped
    finally:
        # after an error, other ranks may wait in a collective, and leaving would not end
        if num_ranks() == 1:
            stop_world()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def evaluate(
    run: str | Path | Run, split: Split = "test", settings: Settings | None = None
) -> Results:
    """Rank the full catalogue for every user with a run's best checkpoint.

    Writes results.json into the run's folder, as `mlrec evaluate` does.

    Returns `.metrics` by group of users ("all", "cold", ...) and metric
    ("hr@10", "ndcg@10", "mrr", ..., from 0 to 1), and `.baselines` alike.

    Raises:
        ValueError: no such run, checkpoint, data set or split.
        RuntimeError: too many items are unreadable.
    """
    check_split(split)
    config = load_trained(Path(as_place("run", run)), as_overrides(settings))
    return evaluate_run(config, open_data(config.data), lone_world(), split)
