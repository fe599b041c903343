"""The validations of a run: which one is the best, and whether train.patience has run out."""

from __future__ import annotations

from mlrec.config import Config
from mlrec.evaluation.evaluate import flat_metrics
from mlrec.evaluation.results import Summary
from mlrec.runs import checkpoint
from mlrec.runs.metrics_file import read_metrics
from mlrec.runs.run import is_out_of_patience
from mlrec.runtime.distributed import from_main
from mlrec.runtime.printable import counted


class Validations:
    """The best value of evaluate.select_by so far, and the validations since; every rank has one.

    All ranks agree, because all get the same metrics.
    """

    def __init__(self, config: Config, fingerprint: str, stale: int) -> None:
        """Find the best checkpoint of the run so far; collective.

        Args:
            fingerprint: of the data set.
            stale: validations since the best one, of the checkpoint that the run resumes from.
        """
        self._config = config
        self._best = from_main(lambda: _best_before(config, fingerprint))
        self.stale = stale

    def is_best(self, summary: Summary | None) -> bool:
        """Count a validation, and return whether it beats all before it; None never does."""
        if summary is None:
            return False
        value = flat_metrics(summary)[self._config.evaluate.select_by]
        if value <= self._best:
            self.stale += 1
            return False
        self._best = value
        self.stale = 0
        return True

    @property
    def out_of_patience(self) -> bool:
        """Whether train.patience stops the run, the same on all ranks."""
        return is_out_of_patience(self._config, self.stale)

    def in_words(self, last_step: int, total_steps: int) -> str:
        """Return why the run stopped after `last_step`, and how to continue."""
        return (
            f"stopped early after step {last_step} of {total_steps}: "
            f"{counted(self.stale, 'validation')} without a new best "
            f"{self._config.evaluate.select_by}, and train.patience is "
            f"{self._config.train.patience}. With a larger one the same command continues"
        )


def choice_in_words(config: Config, step: int) -> str:
    """Return why the checkpoint of a step is the one that is ranked at the end."""
    metric = f"validation/{config.evaluate.select_by}"
    # a step that was validated again after a resume counts once
    steps = {line["step"] for line in read_metrics(config.run_path) if metric in line}
    if not steps:
        return f"step {step:,}, the last checkpoint"
    if len(steps) == 1:
        return f"step {step:,}, the only one that was validated"
    validations = counted(len(steps), "validation")
    return f"step {step:,}, the best of {validations} by {config.evaluate.select_by}"


def _best_before(config: Config, fingerprint: str) -> float:
    """Return the best validation metric on this data set so far, or -1 if there is none."""
    best = checkpoint.best(config.run_path, config.evaluate.select_by)
    state = checkpoint.read_state(best) if best else None
    if state is None or state.fingerprint != fingerprint:
        return -1.0
    # -1 is below every metric, so that the first validation is the best so far.
    return state.metrics.get(config.evaluate.select_by, -1.0)
