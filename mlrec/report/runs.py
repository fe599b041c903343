"""A run folder, read for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlrec import config as configuration
from mlrec.config.run_files import CONFIG_FILE, RANKS_FILE, run_names
from mlrec.evaluation.metrics import standard_error, user_metrics
from mlrec.evaluation.results import Results, read_ranks, read_results
from mlrec.runs.recommendations import Recommended, read_recommended
from mlrec.runs.record import read_record
from mlrec.runs.tracker import read_metrics
from mlrec.runtime.redact import scrub


@dataclass(frozen=True)
class Run:
    """What a run folder holds; parts that are not there are empty and named in `missing`."""

    name: str
    """The folder's; of several with one name, with the folders above that tell them apart."""
    config: dict[str, Any]
    """Without credentials."""
    info: dict[str, Any]
    """The content of run.json: commit, started, hours, world, hardware, versions, dataset, parameters."""
    results: dict[str, Any]
    """The content of results.json: split, step, selected_by, metrics, baselines."""
    metrics: list[dict[str, Any]]
    """The lines of metrics.jsonl."""
    missing: tuple[str, ...]
    errors: dict[str, float] = field(default_factory=dict)
    """Standard errors over the users of the metrics of all; empty where the run has no ranks.npy."""
    recommended: Recommended | None = None
    """What some users were recommended, where the run has been evaluated."""
    path: Path = Path()

    @property
    def fingerprint(self) -> str:
        """Of the data set of its results, without results of the one it was trained on; "" if unknown."""
        return str(
            self.results.get("fingerprint") or self.info.get("dataset", {}).get("fingerprint", "")
        )

    def metric(self, name: str, group: str = "all") -> float | None:
        """A metric of the evaluated split for one popularity group."""
        return _number(self.results, "metrics", group, name)

    def baseline(self, baseline: str, name: str, group: str = "all") -> float | None:
        """The same metric of a baseline."""
        return _number(self.results, "baselines", baseline, group, name)

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a logged metric."""
        points = [(line["step"], line[name]) for line in self.metrics if line.get(name) is not None]
        return [step for step, _ in points], [value for _, value in points]


def _number(tree: Mapping[str, Any], *path: str) -> float | None:
    node: Any = tree
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if isinstance(node, int | float) else None


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a configuration, as (dotted key, value)."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs of the folders, each once, under names that differ.

    Raises:
        ValueError: as read_run.
    """
    distinct: dict[Path, Path] = {}
    for path in paths:
        distinct.setdefault(path.resolve(), path)
    given = list(distinct.values())
    return [
        replace(read_run(path), name=name)
        for path, name in zip(given, run_names(given), strict=True)
    ]


def read_run(path: Path) -> Run:
    """The run of folder `path`.

    Raises:
        ValueError: the folder is no run, or one of its files is damaged.
    """
    if not (path / CONFIG_FILE).exists():
        raise ValueError(
            f"{path} is not a run: it has no {CONFIG_FILE}; mlrec train writes one into the run's folder"
        )
    try:
        config = asdict(configuration.load_saved(path / CONFIG_FILE))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path / CONFIG_FILE} is damaged: {error}") from error
    metrics = read_metrics(path)
    info, found = read_record(path) or {}, read_results(path)
    results = {} if found is None else asdict(found)
    parts = {
        "has no description of its machine and versions (run.json)": info,
        "has logged nothing yet (metrics.jsonl)": metrics,
        "has no results yet (results.json): mlrec evaluate writes them": results,
        "was ranked on another data set (results.json) than it was trained on (run.json)": _is_ranked_on_its_own(
            info, found
        ),
    }
    return Run(
        path=path,
        name=path.resolve().name,
        config=dict(scrub(config)),
        info=dict(scrub(info)),
        results=results,
        metrics=metrics,
        missing=tuple(text for text, part in parts.items() if not part),
        errors={} if found is None else _errors(path, found),
        recommended=read_recommended(path),
    )


def _is_ranked_on_its_own(info: Mapping[str, Any], results: Results | None) -> bool:
    own = info.get("dataset", {}).get("fingerprint", "")
    return results is None or not results.fingerprint or not own or results.fingerprint == own


def _errors(path: Path, results: Results) -> dict[str, float]:
    if not (path / RANKS_FILE).exists() or not results.catalogue_size:
        return {}
    ranks_B2 = read_ranks(path, results)
    per_user = user_metrics(ranks_B2[:, 0], ranks_B2[:, 1], results.catalogue_size)
    return {metric: standard_error(values_B) for metric, values_B in per_user.items()}
