"""The same run on any number of ranks and at any ZeRO stage, in fp32."""

from pathlib import Path
from typing import Any

import pytest
from conftest import VIDEO, tiny_overrides
from ranks import run_ranks, train_runs

STEPS, HALF = 12, 6
TOLERANCE = 1e-5
STAGES = (0, 1, 2, 3)
SCHEDULE = ["optim.schedule=cosine", "optim.warmup=4 steps"]


def runs_of(dataset_dir: Path, folder: Path, stages: tuple[int, ...]) -> dict[str, list[str]]:
    overrides = tiny_overrides(dataset_dir, folder) + VIDEO + SCHEDULE
    return {f"stage{stage}": [*overrides, f"zero.stage={stage}"] for stage in stages}


@pytest.fixture(scope="module")
def alone(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One rank, without ZeRO, uninterrupted."""
    folder = tmp_path_factory.mktemp("alone")
    return run_ranks(train_runs, 1, folder, runs_of(dataset_dir, folder, (0,)), 0, STEPS)[0]["stage0"]


@pytest.fixture(scope="module")
def halves(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Two ranks at every stage, stopped half way."""
    folder = tmp_path_factory.mktemp("halves")
    return folder, run_ranks(train_runs, 2, folder, runs_of(dataset_dir, folder, STAGES), 0, HALF)


def test_a_loss_curve_falls(alone: dict[str, Any]) -> None:
    assert alone["losses"][-1] < alone["losses"][0]


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_have_the_losses_and_gradients_of_one(
    alone: dict[str, Any], halves: tuple[Path, list[dict[str, Any]]], stage: int
) -> None:
    _, ranks = halves
    for rank in ranks:
        found = rank[f"stage{stage}"]
        assert found["losses"] == pytest.approx(alone["losses"][:HALF], abs=TOLERANCE)
        assert found["gradients"].keys() == alone["gradients"].keys()
        for name, gradient in alone["gradients"].items():
            assert found["gradients"][name] == pytest.approx(gradient, abs=TOLERANCE), name


@pytest.mark.parametrize("stage", STAGES)
def test_each_distinct_item_is_encoded_once_over_all_ranks(
    halves: tuple[Path, list[dict[str, Any]]], alone: dict[str, Any], stage: int
) -> None:
    first, second = (rank[f"stage{stage}"] for rank in halves[1])
    assert [one + other for one, other in zip(first["encoded"], second["encoded"], strict=True)] == first["distinct"]
    assert alone["encoded"] == alone["distinct"]


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_stopped_run_goes_on_with_the_same_losses_on_another_number_of_ranks(
    alone: dict[str, Any],
    halves: tuple[Path, list[dict[str, Any]]],
    dataset_dir: Path,
    tmp_path: Path,
    world_size: int,
) -> None:
    stopped, _ = halves
    runs = runs_of(dataset_dir, tmp_path, STAGES)
    results = run_ranks(train_runs, world_size, tmp_path, runs, HALF, STEPS, f"{stopped}/{{name}}")
    for stage in STAGES:
        assert results[0][f"stage{stage}"]["losses"] == pytest.approx(alone["losses"][HALF:], abs=TOLERANCE), stage


def test_a_stopped_run_goes_on_at_another_stage(
    alone: dict[str, Any], halves: tuple[Path, list[dict[str, Any]]], dataset_dir: Path, tmp_path: Path
) -> None:
    stopped, _ = halves
    overrides = tiny_overrides(dataset_dir, tmp_path) + VIDEO + SCHEDULE
    for before, after in ((0, 3), (3, 2), (2, 1)):
        runs = {f"stage{before}": [*overrides, f"zero.stage={after}"]}
        found = run_ranks(train_runs, 1, tmp_path / f"{before}{after}", runs, HALF, STEPS, f"{stopped}/{{name}}")
        assert found[0][f"stage{before}"]["losses"] == pytest.approx(alone["losses"][HALF:], abs=TOLERANCE)
