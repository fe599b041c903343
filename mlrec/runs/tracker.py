"""Where a run's figures go: console, metrics.jsonl, W&B and TensorBoard, behind one Tracker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console

from mlrec.config import Config, TrackingConfig
from mlrec.config.item_units import item_unit
from mlrec.config.metric_names import cutoffs_of, main_cutoff
from mlrec.runs.metrics_file import MetricsFile
from mlrec.runs.service import ServiceSink
from mlrec.runs.tensorboard_run import TensorBoardRun, check_tensorboard
from mlrec.runs.wandb_run import WandbRun, wandb_mode
from mlrec.runtime.progress import Bar, Remaining, is_terminal, number
from mlrec.runtime.terminal import console, say

_SHOWN = {
    "train/loss": "loss {:.4f}",
    "train/lr": "lr {:.1e}",
    "train/grad_norm": "gradient {:.2f}",
    "speed/users_per_s": "{:.0f} users/s",
    "speed/videos_per_s": "{:.0f} {unit}s/s",
    "speed/dedup": "{:.1f} slots/{unit}",
    "speed/data_wait": "data wait {:.0%}",
}
"""What the console shows of training, in this order; the rest is in metrics.jsonl.

unit: see item_unit."""


class Sink(Protocol):
    """One place that figures go to."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def message(self, text: str) -> None: ...

    def close(self, exit_code: int) -> None: ...


def check_tracking(config: TrackingConfig) -> None:
    """Check, before training starts, what a run is tracked with.

    Raises:
        ValueError: WANDB_MODE is none of W&B's modes, or TensorBoard is not installed.
    """
    wandb_mode(config)
    check_tensorboard(config)


class Tracker:
    """Logs metrics to the terminal, metrics.jsonl, W&B and TensorBoard. Only rank 0 logs."""

    def __init__(
        self,
        run_path: Path,
        config: Config,
        total_steps: int,
        resolved: Mapping[str, Any],
        enabled: bool,
        resumed_step: int = 0,
    ) -> None:
        """Opens the sinks.

        Args:
            run_path: the run's folder, which exists.
            resolved: configuration that services show; credentials are taken out.
            enabled: whether this rank tracks; rank 0 alone does.
            resumed_step: figures of later steps, left by a run that was stopped, are dropped.

        Raises:
            ValueError: WANDB_MODE is none of W&B's modes.
        """
        self._sinks: list[Sink] = []
        if enabled:
            self._sinks = [
                MetricsFile(run_path, resumed_step),
                _console_sink(total_steps, resumed_step, item_unit(config.item.encoders)),
            ]
        # On every rank: if WANDB_MODE is wrong, all of them raise and none waits for the others.
        mode, contradiction = wandb_mode(config.tracking)
        if enabled and contradiction:
            self.message(contradiction)
        if enabled and mode != "disabled":
            self._sinks.append(ServiceSink("W&B", lambda: WandbRun(run_path, config, resolved)))
        if enabled and config.tracking.tensorboard:
            self._sinks.append(
                ServiceSink(
                    "TensorBoard",
                    lambda: TensorBoardRun(run_path, config, resolved, resumed_step),
                )
            )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of a step."""
        for sink in self._sinks:
            sink.log(step, metrics)

    def message(self, text: str) -> None:
        """Shows a line on the console."""
        for sink in self._sinks:
            sink.message(text)

    def close(self, exit_code: int = 0) -> None:
        """Ends tracking; an exit code other than 0 marks the run as failed."""
        while self._sinks:
            self._sinks.pop().close(exit_code)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(0 if kind is None else 1)


def summary(metrics: Mapping[str, float], unit: str) -> str:
    """Return what the console shows of a step's metrics; "" if that is nothing.

    Args:
        unit: what the speed counts, as item_unit returns it.
    """
    forms = _SHOWN | _validation_forms(metrics)
    shown = [
        form.format(metrics[name], unit=unit) for name, form in forms.items() if name in metrics
    ]
    return "  ".join(shown)


def _validation_forms(names: Iterable[str]) -> dict[str, str]:
    """Return what the console shows of a validation: metrics at one cut-off."""
    prefix = "validation/"
    cutoff = main_cutoff(cutoffs_of(name.removeprefix(prefix) for name in names))
    return {
        f"{prefix}hr@{cutoff}": f"validation hr@{cutoff} {{:.4f}}",
        f"{prefix}ndcg@{cutoff}": f"ndcg@{cutoff} {{:.4f}}",
        f"{prefix}cold/hr@{cutoff}": f"cold hr@{cutoff} {{:.4f}}",
        f"{prefix}users": "on a sample of {:,.0f} users",
    }


def _console_sink(total_steps: int, resumed_step: int, unit: str) -> Sink:
    out = console()
    return (
        _ProgressLine(total_steps, resumed_step, unit, out)
        if is_terminal(out)
        else _PlainLines(total_steps, resumed_step, unit)
    )


class _PlainLines:
    """One line per call, for log files and pipes."""

    def __init__(self, total_steps: int, resumed_step: int, unit: str) -> None:
        self._total = total_steps
        self._unit = unit
        self._remaining = Remaining(total_steps, resumed_step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if shown := summary(metrics, self._unit):
            self.message(f"step {step}/{self._total}  {shown}  {self._remaining(step)}".rstrip())

    def message(self, text: str) -> None:
        with contextlib.suppress(
            OSError
        ):  # a terminal or pipe that is gone ends no run: metrics.jsonl has the figures
            say(text, flush=True)

    def close(self, exit_code: int) -> None:
        del exit_code


class _ProgressLine:
    """A progress bar with the newest training metrics; evaluations stay above it."""

    def __init__(self, total_steps: int, resumed_step: int, unit: str, console: Console) -> None:
        self._unit = unit
        self._bar = Bar("training", total_steps, number, console, done=resumed_step, stays=True)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        shown = summary(metrics, self._unit)
        if "train/loss" in metrics:
            self._bar.reach(step, shown)
        elif shown:
            self.message(f"step {step}  {shown}")

    def message(self, text: str) -> None:
        self._bar.message(text)

    def close(self, exit_code: int) -> None:
        del exit_code
        self._bar.close()
