"""`mlrec.train` and `mlrec.evaluate`: runs and results equal to those of the commands."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from tiny import tiny_overrides

import mlrec
from mlrec import config as configuration
from mlrec.api import runs
from mlrec.cli.main import run_command
from mlrec.config import load


def test_train_equals_the_command(id_run: mlrec.Run, dataset_dir: Path, tmp_path: Path) -> None:
    settings = [*tiny_overrides(dataset_dir, tmp_path), "name=command", "train.duration=6 steps"]
    run_command(["train", *settings])
    command = mlrec.Run(tmp_path / "command")
    assert command.results == id_run.results

    def losses(run: mlrec.Run) -> list[float]:
        return [line["train/loss"] for line in run.log if "train/loss" in line]

    assert losses(id_run) == losses(command) and len(losses(id_run)) == 6


def test_train_leaves_no_group_behind(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in runs._GROUP_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    config = load([], tiny_overrides(dataset_dir, tmp_path))
    # refused after the group has been started, and trained
    with pytest.raises(ValueError, match="is not a data set"):
        mlrec.train(config, {"data.url": str(tmp_path)})
    assert not dist.is_initialized()
    run = mlrec.train(config, {"train.duration": "1 steps"})
    assert not dist.is_initialized()
    assert not set(runs._GROUP_VARIABLES) & os.environ.keys()
    assert os.fspath(run) == str(tmp_path / "run")


def test_train_takes_files_settings_and_configs(
    id_run: mlrec.Run, dataset_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    configuration.save(load([], tiny_overrides(dataset_dir, tmp_path)), file)
    settings = {"train.duration": "2 steps", "evaluate.cutoffs": [5, 10], "name": "first"}
    first = mlrec.train(str(file), settings)
    second = mlrec.train([file], settings | {"name": "second"})
    config = replace(load([file], ["train.duration=2 steps"]), name="third")
    third = mlrec.train(config, {"evaluate": {"cutoffs": (5, 10)}})
    assert first.results == second.results == third.results
    assert first.results is not None and "hr@5" in first.results.metrics["all"]


def test_train_in_a_thread_is_possible(dataset_dir: Path, tmp_path: Path) -> None:
    settings = tiny_overrides(dataset_dir, tmp_path)
    config = load([], [*settings, "train.duration=1 steps"])
    runs: list[mlrec.Run] = []
    thread = threading.Thread(target=lambda: runs.append(mlrec.train(config)))
    thread.start()
    thread.join()
    assert runs[0].results is not None


def test_train_configuration_that_misfits_is_named() -> None:
    with pytest.raises(ValueError, match=r"train\.durations"):
        mlrec.train({"train.durations": "2 epochs"})
    with pytest.raises(TypeError, match=r"config is 7 of type int\. Pass the path of a YAML file"):
        mlrec.train(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"seed is array.* which a configuration cannot hold"):
        mlrec.train({"seed": np.zeros(2)})


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluate_equals_the_command(
    split: str, video_run: mlrec.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = mlrec.Run(shutil.copytree(video_run.path, tmp_path / "run"))
    run_command(["evaluate", str(run.path), "--split", split, "--json"])
    expected = json.loads(capsys.readouterr().out)
    results = mlrec.evaluate(run, split)  # type: ignore[arg-type]
    assert json.loads(json.dumps(asdict(results))) == expected
    assert run.results == results


def test_evaluate_of_another_split_is_refused(id_run: mlrec.Run) -> None:
    with pytest.raises(ValueError, match=r"split is 'tset'\. Pass 'validation' or 'test'"):
        mlrec.evaluate(id_run, "tset")  # type: ignore[arg-type]


def test_train_under_a_new_name_leaves_the_old_run_alone(id_run: mlrec.Run, tmp_path: Path) -> None:
    old = mlrec.Run(shutil.copytree(id_run.path, tmp_path / "ids"))
    written = (old.path / "config.yaml").read_bytes()
    new = mlrec.train(old.config, {"name": "new", "train.duration": "1 steps"})
    assert new.path == tmp_path / "new" and new.config.name == "new"
    # a folder that was named by hand
    fixed = replace(old.config, run_dir=str(old.path))
    with pytest.raises(ValueError, match=f"Cannot train new in {old.path}, which holds the run id"):
        mlrec.train(fixed, {"name": "new", "train.duration": "7 steps"})
    assert (old.path / "config.yaml").read_bytes() == written


def test_train_twice_at_a_time_is_refused(id_run: mlrec.Run) -> None:
    with runs._training, pytest.raises(RuntimeError, match="This process trains another run"):
        mlrec.train(id_run.config)


def test_run_does_not_depend_on_the_working_directory(
    id_run: mlrec.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(id_run.path.parent)
    run = mlrec.Run(id_run.path.name)
    monkeypatch.chdir(tmp_path)
    assert run.results == id_run.results and run.log == id_run.log
    assert run.config.run_path == id_run.path


def test_run_of_an_export_is_refused(exported: Path) -> None:
    with pytest.raises(ValueError, match=r"is an export, not a run. Load it with mlrec.load"):
        mlrec.Run(exported)


def test_run_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} is not a run"):
        mlrec.Run(tmp_path)
