"""Read run folders for a report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mlrec import config as configuration
from mlrec import storage
from mlrec.config.metric_names import MAIN_CUTOFF, cutoffs_of, metric_names
from mlrec.config.run_files import CONFIG_FILE, RUN_REMEDY, run_names
from mlrec.evaluation.results import Results, read_results
from mlrec.report.users import UserResults, read_user_results
from mlrec.report.wording import listed
from mlrec.runs.metrics_file import read_metrics
from mlrec.runs.recommendations import Recommended, read_recommended
from mlrec.runs.record import read_record
from mlrec.runtime.redact import scrub


class Missing(NamedTuple):
    """A part that a run lacks."""

    text: str
    """Predicate of a sentence whose subject is the run's name."""
    command: str = ""
    """Command that adds the part, shown verbatim; empty if the text names the remedy."""


@dataclass(frozen=True)
class Run:
    """The content of a run folder. Parts that do not exist are empty and described in `missing`."""

    name: str
    """Name of the folder, preceded by parent folders where several have the same name."""
    config: dict[str, Any]
    """Settings, without credentials."""
    info: dict[str, Any]
    """Content of run.json: commit, start, hours, world, hardware, versions, dataset, parameters."""
    results: dict[str, Any]
    """Content of results.json: split, step, selected_by, metrics, baselines."""
    metrics: list[dict[str, Any]]
    """Lines of metrics.jsonl."""
    missing: tuple[Missing, ...]
    users: UserResults | None = field(default=None, compare=False)
    """Results of each user; None if the run has no ranks.npy."""
    recommended: Recommended | None = None
    """Recommendations to some users; None if the run was not evaluated."""
    path: Path = Path()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the ranked data set, else of the training's; "" if unknown."""
        trained_on = self.dataset.get("fingerprint", "")
        return str(self.results.get("fingerprint") or trained_on)

    @property
    def is_split_by_time(self) -> bool:
        """Whether the data set of the training is split by cut-offs in time."""
        return bool(self.dataset.get("split") == "time")

    @property
    def dataset(self) -> dict[str, Any]:
        """What run.json says about the data set of the training; empty if nothing."""
        described: dict[str, Any] = self.info.get("dataset", {})
        return described

    @property
    def encoders(self) -> list[str]:
        """Rows of the run's encoders."""
        return list(self.config.get("item", {}).get("encoders", ()))

    def encoder_options(self, encoder: str) -> dict[str, Any]:
        """Return the changes to an encoder's row."""
        return dict((self.config.get("item", {}).get("options") or {}).get(encoder, {}))

    def encoder_tuning(self, encoder: str) -> str:
        """Return how an encoder is tuned: by its own option, or as all are."""
        own = self.encoder_options(encoder).get("tuning")
        return str(own or self.config.get("item", {}).get("tuning"))

    def metric(self, name: str, group: str = "all") -> float | None:
        """Return a metric of the ranked split for a popularity group."""
        return _number(self.results, "metrics", group, name)

    def baseline(self, baseline: str, name: str, group: str = "all") -> float | None:
        """Return a metric of a baseline for a popularity group."""
        return _number(self.results, "baselines", baseline, group, name)

    def error(self, name: str, group: str = "all") -> float | None:
        """Return the standard error of a metric over the users of a group; None if unknown."""
        return None if self.users is None else self.users.error(name, group)

    def epoch_of(self, step: int) -> float | None:
        """Return how many epochs were trained after `step` steps; None if none were logged."""
        steps, epochs = self.curve("train/epoch")
        return step * epochs[-1] / steps[-1] if steps and steps[-1] else None

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Return the steps and the values of a logged metric."""
        steps = []
        values = []
        for line in self.metrics:
            if line.get(name) is not None:
                steps.append(line["step"])
                values.append(line[name])
        return steps, values


def _number(tree: Mapping[str, Any], *path: str) -> float | None:
    node: Any = tree
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if isinstance(node, int | float) else None


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a configuration, as (dotted key, value)."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders, each once, and give them distinct names.

    Raises:
        ValueError: as read_run.
    """
    distinct: dict[Path, Path] = {}
    for path in paths:
        distinct.setdefault(path.resolve(), path)
    folders = list(distinct.values())
    runs = []
    for path, name in zip(folders, run_names(folders), strict=True):
        runs.append(replace(read_run(path), name=name))
    return [_with_missing_cutoffs(run, runs) for run in runs]


def metrics_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the metrics of the runs' results: those at 10, and at every cut-off that a run has."""
    cutoffs = {MAIN_CUTOFF}
    for run in runs:
        cutoffs.update(cutoffs_of(run.results.get("metrics", {}).get("all", {})))
    return metric_names(sorted(cutoffs))


def missing_parts(runs: Sequence[Run]) -> list[Missing]:
    """Return one sentence for each part that runs lack."""
    names_by_part: dict[Missing, list[str]] = {}
    for run in runs:
        for part in run.missing:
            names_by_part.setdefault(part, []).append(run.name)
    sentences = []
    for part, names in names_by_part.items():
        end = "" if part.command else "."
        predicate = part.text if len(names) == 1 else _plural(part.text)
        sentences.append(part._replace(text=f"{listed(names)} {predicate}{end}"))
    return sentences


def _plural(predicate: str) -> str:
    """Return a predicate about several runs."""
    verb, _, rest = predicate.partition(" ")
    verbs = {"has": "have", "was": "were"}
    return f"{verbs.get(verb, verb)} {rest}"


def _with_missing_cutoffs(run: Run, runs: Sequence[Run]) -> Run:
    """Add to a ranked run's missing parts the cut-offs that a report of `runs` shows."""
    if not run.results:
        return run
    cutoffs = cutoffs_of(metrics_of(runs))
    missing = [cutoff for cutoff in cutoffs if run.metric(f"hr@{cutoff}") is None]
    if not missing:
        return run
    wanted = ",".join(map(str, cutoffs))
    command = ("mlrec", "evaluate", str(run.path), "--split", run.results["split"])
    part = Missing(
        f"was ranked without the metrics at {listed(list(map(str, missing)))}; to add them, run",
        shlex.join([*command, f"evaluate.cutoffs=[{wanted}]"]),
    )
    return replace(run, missing=(*run.missing, part))


def read_run(path: Path) -> Run:
    """Read the run in a folder.

    Raises:
        ValueError: the folder is no run, or one of its files is damaged.
    """
    if not (path / CONFIG_FILE).exists():
        raise ValueError(storage.why_absent(str(path), "a run", CONFIG_FILE, RUN_REMEDY))
    # the file may be of an earlier version, or edited: one sentence names it either way
    try:
        config = asdict(configuration.load_saved(path / CONFIG_FILE))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path / CONFIG_FILE} is damaged: {error}") from error
    metrics = read_metrics(path)
    info = read_record(path) or {}
    results = read_results(path)
    users = None if results is None else read_user_results(path, results)
    missing = []
    if not info:
        missing.append("has no description of its machine and versions (run.json)")
    if not metrics:
        missing.append("has logged nothing yet (metrics.jsonl)")
    if results is None:
        missing.append("has no results yet (results.json): mlrec evaluate writes them")
    elif not _is_ranked_on_its_own(info, results):
        missing.append(
            "was ranked on another data set (results.json) than it was trained on (run.json)"
        )
    if results is not None and users is None:
        missing.append(
            "has no results by user (ranks.npy), which ± and tests are computed from: "
            "mlrec evaluate writes them"
        )
    elif results is not None and users is not None and _lacks_groups(results, users):
        missing.append(
            "has no popularity by user in ranks.npy, which ± by popularity is computed from: "
            "mlrec evaluate writes it"
        )
    return Run(
        path=path,
        name=path.resolve().name,
        # reports are shared, so credentials in URLs must not reach them
        config=dict(scrub(config)),
        info=dict(scrub(info)),
        results={} if results is None else asdict(results),
        metrics=metrics,
        missing=tuple(map(Missing, missing)),
        users=users,
        recommended=read_recommended(path),
    )


def _is_ranked_on_its_own(info: Mapping[str, Any], results: Results) -> bool:
    """Tell whether a run was ranked on the data set of its training, as far as that is known."""
    trained_on = info.get("dataset", {}).get("fingerprint", "")
    return not trained_on or results.fingerprint in ("", trained_on)


def _lacks_groups(results: Results, users: UserResults) -> bool:
    """Tell whether there are metrics by popularity, but no popularity of each user's target."""
    return len(results.metrics) > 1 and len(users.groups) == 1
