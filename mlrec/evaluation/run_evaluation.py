"""Rank the best checkpoint of a run, and write what was measured into its folder."""

from __future__ import annotations

import shlex
from pathlib import Path

from mlrec import storage
from mlrec.config import Config
from mlrec.config.run_files import RESULTS_FILE
from mlrec.data.format import ORACLE_FILE, Split, read_oracle
from mlrec.data.stream import Data
from mlrec.evaluation.evaluate import evaluate, sample_users
from mlrec.evaluation.metrics import METRICS
from mlrec.evaluation.results import Results, read_results, write_results
from mlrec.evaluation.trained_model import load_model
from mlrec.models.building import as_trained
from mlrec.runs import checkpoint, failures
from mlrec.runs.recommendations import write_recommended
from mlrec.runs.record import trained_on
from mlrec.runs.run import best_checkpoint
from mlrec.runtime.distributed import World, from_main
from mlrec.runtime.terminal import say


def evaluate_run(config: Config, data: Data, world: World, split: Split) -> Results:
    """Evaluate the run's best checkpoint by validation, without DeepSpeed; collective.

    Rank 0 writes results.json, ranks.npy and recommended.json. It leaves them alone if the data
    set differs from that of the training or of the results so far, because other runs are
    compared with those.

    Raises:
        ValueError: the run has no checkpoint, or its model knows the items of another data set.
        RuntimeError: more than data.max_bad_items items could not be read.
    """
    run = config.run_path
    path = best_checkpoint(config)
    # Every rank needs the answer, to raise the same error below.
    reason_not_to_write = from_main(lambda: _reason_not_to_write(run, path, data))
    if not reason_not_to_write:
        # before the minutes of a ranking that could not be saved
        from_main(lambda: storage.check_writable(run, "the run's folder"))
    model = load_model(config, data, world, path)
    # In the type of training, in which validation chose this checkpoint.
    as_trained(model, config, world.device)
    evaluation = evaluate(model, data, config, world, split, recommend=True)
    baselines = dict(evaluation.baselines)
    # The oracle has the default cut-offs alone; at others it has no figures.
    if split == "test" and (oracle := oracle_of(data)):
        baselines["oracle"] = oracle
    results = Results(
        split=split,
        step=checkpoint.read_state(path).step,
        selected_by=_selected_by(config, data),
        metrics=evaluation.metrics,
        baselines=baselines,
        bad_items=evaluation.bad_items,
        catalogue_size=evaluation.catalogue_size,
        fingerprint=data.info.fingerprint,
    )
    if world.is_main and reason_not_to_write:
        say(f"{run / RESULTS_FILE} is unchanged: {reason_not_to_write}", error=True)
    elif world.is_main:
        # A crash between these writes leaves files of two rankings; the same command replaces all.
        if evaluation.recommended is not None:
            write_recommended(run, evaluation.recommended)
        split_before = _split_of_results(run)
        write_results(run, results, evaluation.ranks)
        if split_before not in ("", split):
            say(
                f"{run / RESULTS_FILE} now holds the {split} split; it held the {split_before} "
                f"split, which mlrec evaluate {shlex.quote(str(run))} --split {split_before} "
                "writes again",
                error=True,
            )
    # After the files are written, as the error refers to the reasons in results.json.
    if len(evaluation.bad_items) > config.data.max_bad_items:
        ledger = None if reason_not_to_write else run / RESULTS_FILE
        raise failures.too_many(
            evaluation.bad_items.values(), config.data.max_bad_items, data.url, ledger
        )
    return results


def _selected_by(config: Config, data: Data) -> str:
    """Return the metric that chose the checkpoint, and the sample of users if it was one."""
    metric = f"validation {config.evaluate.select_by}"
    if not config.evaluate.users:
        return metric
    users_V = data.sequences.evaluated_users("validation")
    num_users = len(sample_users(users_V, config))
    return f"{metric} on a sample of {num_users:,} users" if num_users < len(users_V) else metric


def oracle_of(data: Data) -> dict[str, dict[str, float]]:
    """Return the metrics of the best possible model on the test split.

    Synthetic data sets know them; for others the result is empty.

    Raises:
        ValueError: oracle.json is damaged.
    """
    return read_oracle(data.url, data.info, METRICS) if data.info.has(ORACLE_FILE) else {}


def _reason_not_to_write(run: Path, path: Path, data: Data) -> str:
    """Return why the run's files must not hold a ranking of this data set; "" if they may."""
    fingerprint = data.info.fingerprint
    trained_fingerprint = trained_on(run) or checkpoint.read_state(path).fingerprint
    if trained_fingerprint != fingerprint:
        return f"the run was trained on another data set than the one at {data.url}"
    ranked_fingerprint = _fingerprint_of_results(run)
    if ranked_fingerprint not in ("", fingerprint):
        return (
            f"it holds the ranking of another data set ({ranked_fingerprint[:12]}). "
            "Remove it to write the next ranking"
        )
    return ""


def _fingerprint_of_results(run: Path) -> str:
    results = _results_before(run)
    return results.fingerprint if results else ""


def _split_of_results(run: Path) -> str:
    results = _results_before(run)
    return results.split if results else ""


def _results_before(run: Path) -> Results | None:
    """Return the run's last results, or None if it has none or damaged ones."""
    try:
        return read_results(run)
    except ValueError:
        # Damaged results are replaced: the error of `read_results` promises that.
        return None
