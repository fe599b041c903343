"""Two small runs on the tiny data set, one over item ids and one over videos, and an export."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import VIDEO, tiny_overrides

import mlrec
from mlrec.cli.main import run_command


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def settings_of(dataset_dir: Path, folder: Path, name: str) -> dict[str, str]:
    pairs = [setting.partition("=") for setting in tiny_overrides(dataset_dir, folder)]
    return {key: value for key, _, value in pairs} | {"name": name, "train.duration": "6 steps"}


@pytest.fixture(scope="session")
def id_run(dataset_dir: Path, runs_folder: Path) -> mlrec.Run:
    return mlrec.train(settings_of(dataset_dir, runs_folder, "ids"))


@pytest.fixture(scope="session")
def video_run(dataset_dir: Path, runs_folder: Path) -> mlrec.Run:
    video = dict(setting.split("=", 1) for setting in VIDEO)
    return mlrec.train(settings_of(dataset_dir, runs_folder, "videos"), video)


@pytest.fixture(scope="session")
def exported(id_run: mlrec.Run, runs_folder: Path) -> Path:
    out = runs_folder / "exported"
    run_command(["export", str(id_run.path), str(out), "--index"])
    return out
