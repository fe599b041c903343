"""The settings that a search varies, and the next ones to try, by Optuna's TPE.

TPE (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011) models which values the
good trials had. Its first ten trials are random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from mlrec.config.scalars import MAX_TEXT_CHARACTERS
from mlrec.storage.typed_json import STRICT

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = int | float | Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
"""A number of a range, or a choice as it follows key= on a command line."""

MAX_DRAWS = 50
"""Draws in search of settings that no trial has had."""
_SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Whether the logarithm of the number is searched, as for learning rates."""
    whole: bool = False
    """Whether only whole numbers are tried."""

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that every other value lies between."""
        return (self.shown(self.low), self.shown(self.high))

    def holds(self, value: Value) -> bool:
        """Return whether a trial may have this value."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def shown(self, value: float) -> Value:
        """Return a number as a trial gets it: whole, or with four significant digits."""
        if self.whole:
            return int(value)
        rounded = float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
        return min(max(rounded, self.low), self.high)

    def distribution(self) -> BaseDistribution:
        """Return the range for Optuna."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choices:
    """A list of values without an order."""

    texts: tuple[str, ...]
    """Each value as it follows key= on a command line."""

    @property
    def ends(self) -> tuple[Value, ...]:
        """All values."""
        return self.texts

    def holds(self, value: Value) -> bool:
        """Return whether a trial may have this value."""
        return value in self.texts

    def shown(self, value: str) -> Value:
        """Return a choice as a trial gets it."""
        return value

    def distribution(self) -> BaseDistribution:
        """Return the choices for Optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.texts)


Space = Mapping[str, Range | Choices]
"""The values to try of each key."""


@dataclass(frozen=True)
class Trial:
    """The content of trial.json: the settings of a trial, and what came of it."""

    __pydantic_config__ = STRICT

    settings: dict[str, Value]
    value: float | None = None
    """The search's metric on the validation split; None unless the trial has finished."""
    error: str = ""
    """Reason why the trial failed; empty if it did not."""

    @property
    def has_ended(self) -> bool:
        """Whether the trial has finished or failed."""
        return self.value is not None or bool(self.error)


def check_optuna() -> None:
    """Check that Optuna is installed.

    Raises:
        ValueError: it is not.
    """
    try:
        import optuna
    except ImportError as error:
        raise ValueError("A search needs Optuna: pip install 'mlrec[search]'") from error
    # Its default logs every study and trial to the terminal.
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def suggest(space: Space, seed: int, ended: Sequence[Trial]) -> dict[str, Value] | None:
    """Return the settings of the next trial, or None if it finds none that are new.

    A function of its arguments, so a search that was stopped continues as if it was not.

    Args:
        ended: the trials before, in their order.
    """
    tried = [trial.settings for trial in ended]
    for draw in range(MAX_DRAWS):
        settings = _draw(space, (seed, len(ended), draw), ended)
        # Training is deterministic: the same settings would give the same value.
        if settings not in tried:
            return settings
    return None


def _draw(space: Space, key: tuple[int, ...], ended: Sequence[Trial]) -> dict[str, Value]:
    import optuna
    from optuna.trial import TrialState, create_trial

    # A sampler of its own for each draw: the random numbers do not depend on what came before.
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    distributions = {name: values.distribution() for name, values in space.items()}
    for trial in ended:
        state = TrialState.FAIL if trial.value is None else TrialState.COMPLETE
        study.add_trial(
            create_trial(
                state=state,
                value=trial.value,
                params=dict(trial.settings),
                distributions=distributions,
            )
        )
    drawn: dict[str, Any] = study.ask(distributions).params
    return {name: values.shown(drawn[name]) for name, values in space.items()}
