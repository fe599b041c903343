"""mlrec sweep with `search`: trials of settings, each a run that leaves the test split unread.

    runs/NAME/trial000/    a run, and trial.json with its settings and what came of it
    runs/NAME/best.yaml    the configuration of the best trial, for final runs

The same command resumes a search that was stopped. Trials that failed are not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlrec import config as configuration
from mlrec import storage
from mlrec.config import Config
from mlrec.config.metric_names import metric_names
from mlrec.config.run_files import OUTPUT_FILE, TRIAL_FILE
from mlrec.runs.lock import run_lock
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import Task, task
from mlrec.storage.typed_json import parse_json, read_bounded
from mlrec.train.run_process import train_run
from mlrec.train.search_file import Search
from mlrec.train.search_space import Trial, Value, check_optuna, suggest
from mlrec.train.sweep import check_unchanged, final_metrics, runs_in_words
from mlrec.train.sweep_file import SweepRun, beside, read_content, read_run

MAX_TRIAL_BYTES = 1 << 20
FIRST_FAILURES = 3
"""A search whose first trials all fail stops after this many: more would fail alike."""
BEST_FILE = "best.yaml"


@dataclass(frozen=True)
class SearchPlan:
    """A search as it is carried out: its trials' common arguments, and where they are."""

    path: Path
    """File of the sweep."""
    search: Search
    base: Config
    """Configuration without the settings that are searched; its folder is the search's."""
    metric: str
    files: tuple[str, ...]
    overrides: tuple[str, ...]

    def run(self, number: int, settings: dict[str, Value]) -> SweepRun:
        """Return the run of a trial.

        Raises:
            ValueError: the settings do not fit together.
        """
        searched = [f"{key}={value}" for key, value in settings.items()]
        name = f"name={self.base.name}/{_trial_name(number)}"
        # After the command line, which must not make trials read the test split.
        last = "evaluate.final_split=validation"
        return read_run(self.path, (*self.files, *self.overrides, *searched, name, last))

    def folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.base.run_path / _trial_name(number)


@dataclass(frozen=True)
class TrialOutcome:
    """A trial that has ended."""

    name: str
    run_dir: str
    settings: dict[str, Value]
    value: float | None
    """Metric of the search on the validation split; None if the trial failed."""
    error: str
    before: bool
    """Whether the trial had ended before this command."""


@dataclass(frozen=True)
class Best:
    """The best trial of a search."""

    trial: TrialOutcome
    metric: str
    file: Path
    """Configuration of the trial, for final runs."""


def read_plan(path: Path, overrides: Sequence[str]) -> SearchPlan:
    """Read a sweep's file with a search, and check every value that it may try on its own.

    Raises:
        ValueError: the file, a configuration or a value does not fit, or Optuna is not installed.
    """
    content = read_content(path)
    assert content.search is not None
    check_optuna()
    search = content.search
    for key in search.keys:
        if any(override.startswith(f"{key}=") for override in overrides):
            raise ValueError(f"{path}: search.keys and the command line both set {key}; remove one")
    files = tuple(beside(path, content.base))
    base = read_run(path, (*files, f"name={content.name or path.stem}", *overrides)).config
    if not base.run_dir.endswith("{name}"):
        raise ValueError(
            f"{path}: run_dir is {base.run_dir!r}; it must end in {{name}}, because each trial "
            "has a folder of its own below it"
        )
    metric = search.metric or base.evaluate.select_by
    known = metric_names(base.evaluate.cutoffs)
    if metric.rpartition("/")[2] not in known:
        raise ValueError(
            f"{path}: search.metric is {metric!r}; it must be one of {', '.join(known)}, or one of "
            "a group of users, such as cold/hr@10. For another cut-off, add it to evaluate.cutoffs"
        )
    plan = SearchPlan(path, search, base, metric, files, tuple(overrides))
    _check_values(plan)
    return plan


def _check_values(plan: SearchPlan) -> None:
    """Check each value of each key beside the base's other settings.

    Raises:
        ValueError: a key is unknown, or a value does not fit it.
    """
    for key, values in plan.search.keys.items():
        for value in values.ends:
            try:
                plan.run(0, {key: value})
            except ValueError:
                if isinstance(value, float) and _fits_as_whole(plan, key, value):
                    raise ValueError(
                        f"{plan.path}: search.keys.{key} tries numbers such as {value}, and {key} "
                        "takes whole numbers. Write low and high as whole numbers"
                    ) from None
                raise


def _fits_as_whole(plan: SearchPlan, key: str, value: float) -> bool:
    """Return whether a number that does not fit its key would fit without its decimal point.

    Options have no type in the configuration, so a range of them is whole if both ends are.
    """
    try:
        plan.run(0, {key: int(value)})
    except ValueError:
        return False
    return value.is_integer()


def run_search(plan: SearchPlan, launcher: Sequence[str]) -> Iterator[TrialOutcome]:
    """Run the trials one after the other, and yield how each ended.

    Args:
        launcher: command that takes a run's files and key=value, and returns when the run ends.

    Raises:
        ValueError: a trial's folder holds another run, or settings that the search would not try.
        RuntimeError: the first trials all failed, or another process runs this search.
    """
    ended: list[Trial] = []
    # Two commands on one search would give two trials the same number.
    lock = run_lock(plan.base.run_path, is_main=True)
    with lock, task("trials", plan.search.trials, runs_in_words) as under_way:
        for number in range(plan.search.trials):
            trial = _recorded(plan, number)
            before = trial is not None and trial.has_ended
            if trial is None:
                settings = suggest(plan.search.keys, plan.base.seed, ended)
                if settings is None:  # Every combination of a few choices was tried.
                    return
                trial = Trial(settings)
                # Before the run starts, so that a stopped trial resumes with its own settings.
                _write(plan, number, trial)
            if not before:
                trial = _carry_out(plan, number, trial, launcher, under_way)
                _write(plan, number, trial)
            under_way.reach(number + 1)
            ended.append(trial)
            yield _outcome(plan, number, trial, before)
            _check_not_all_failed(plan, ended)


def _carry_out(
    plan: SearchPlan, number: int, trial: Trial, launcher: Sequence[str], under_way: Task
) -> Trial:
    """Train a trial to its end, or resume it, and return it with its value or its error."""
    try:
        run = plan.run(number, trial.settings)
    except ValueError as misfit:  # Each value fits on its own, but not every combination.
        return replace(trial, error=str(misfit))
    error = ""
    if final_metrics(run.config.run_path, "validation") is None:
        check_unchanged(run.config)
        error = train_run([*launcher, *run.launch_arguments], run.config, under_way)
    metrics = final_metrics(run.config.run_path, "validation") or {}
    value = metrics.get(plan.metric)
    if not error and value is None:
        output = run.config.run_path / OUTPUT_FILE
        error = f"it ended without {plan.metric} on the validation split; see {output}"
    return replace(trial, value=None if error else value, error=error)


def write_best(plan: SearchPlan, outcomes: Sequence[TrialOutcome]) -> Best:
    """Write the configuration of the best trial, complete or not at all.

    Raises:
        RuntimeError: no trial has finished.
    """
    finished = [outcome for outcome in outcomes if outcome.value is not None]
    if not finished:
        raise _all_failed(plan, [outcome.error for outcome in outcomes])
    # max returns the first of equal values.
    best = max(finished, key=lambda outcome: outcome.value or 0.0)
    config = plan.run(0, best.settings).config
    evaluate = replace(config.evaluate, final_split=plan.base.evaluate.final_split)
    final = replace(config, name=f"{plan.base.name}_best", evaluate=evaluate)
    file = plan.base.run_path / BEST_FILE
    configuration.save(final, file)
    return Best(best, plan.metric, file)


def in_words(outcome: TrialOutcome, metric: str) -> str:
    """Return one line that says how a trial ended."""
    settings = "  ".join(f"{key}={value}" for key, value in outcome.settings.items())
    failed = outcome.value is None
    ending = f"failed: {outcome.error}" if failed else f"validation {metric} {outcome.value:.4f}"
    before = "  ended before" if outcome.before else ""
    return f"{outcome.name}  {ending}  {settings}{before}"


def _trial_name(number: int) -> str:
    return f"trial{number:03d}"


def _outcome(plan: SearchPlan, number: int, trial: Trial, before: bool) -> TrialOutcome:
    return TrialOutcome(
        name=_trial_name(number),
        run_dir=str(plan.folder(number)),
        settings=trial.settings,
        value=trial.value,
        error=trial.error,
        before=before,
    )


def _recorded(plan: SearchPlan, number: int) -> Trial | None:
    """Return a trial of an earlier command, or None if there is none.

    Raises:
        ValueError: trial.json is damaged, the trial has settings that the search would not try, or
            its run has other settings than the search gives it.
    """
    folder = plan.folder(number)
    path = folder / TRIAL_FILE
    if not path.exists():
        return None
    remedy = f"Remove the folder {folder} to repeat this trial"
    raw = read_bounded(path, MAX_TRIAL_BYTES, remedy)
    trial = parse_json(raw, Trial, str(path), remedy)
    keys = plan.search.keys
    fits = trial.settings.keys() == keys.keys()
    if not fits or not all(keys[key].holds(value) for key, value in trial.settings.items()):
        raise ValueError(
            f"{path} has the settings {trial.settings}, which are not among those of search.keys. "
            "Give the new search another name, or remove its folder"
        )
    if trial.value is None:
        return trial
    run = plan.run(number, trial.settings).config
    check_unchanged(run)
    # Read again, because search.metric may be another one than that of the earlier command.
    metrics = final_metrics(run.run_path, "validation") or {}
    if plan.metric not in metrics:
        raise ValueError(f"{run.run_path} has no {plan.metric} of the validation split. {remedy}")
    return replace(trial, value=metrics[plan.metric])


def _write(plan: SearchPlan, number: int, trial: Trial) -> None:
    """Write trial.json, complete or not at all."""
    folder = plan.folder(number)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(asdict(trial), indent=1, allow_nan=False) + "\n"
    storage.write_bytes(str(folder / TRIAL_FILE), content.encode())


def _check_not_all_failed(plan: SearchPlan, ended: Sequence[Trial]) -> None:
    if len(ended) < FIRST_FAILURES or any(trial.value is not None for trial in ended):
        return
    raise _all_failed(plan, [trial.error for trial in ended])


def _all_failed(plan: SearchPlan, errors: Sequence[str]) -> RuntimeError:
    return RuntimeError(
        f"0 of {counted(len(errors), 'trial')} finished; the last one failed: {errors[-1]}. Fix "
        f"the cause, remove the folder {plan.base.run_path}, and run the same command again"
    )
