"""The same run on any number of ranks and at any ZeRO stage, in fp32."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_ranks, train_runs
from tiny import SHIPPED_DROPOUT, VIDEO, tiny_overrides

from mlrec.runs.checkpoint import WEIGHT, newest, read_tensors

STEPS = 12
HALF = 6
TOLERANCE = 1e-5
VARIANTS = {
    "stage0": ["zero.stage=0"],
    "stage1": ["zero.stage=1"],
    "stage2": ["zero.stage=2"],
    "stage3": ["zero.stage=3"],
    "again0": ["zero.stage=0", "item.checkpoint=always", "train.ema=0"],
    "again3": ["zero.stage=3", "item.checkpoint=always", "train.ema=0"],
    # By default DeepSpeed keeps parameters of small models gathered between their uses.
    "fetched3": ["zero.stage=3", "zero.options={stage3_param_persistence_threshold: 0}"],
}
HAS_COMPILER = shutil.which("g++") is not None
if HAS_COMPILER:
    VARIANTS["offload"] = ["zero.stage=2", "zero.offload_optimizer=true"]
MLP = ["item.options.video/tiny.projection=mlp"]
"""Option of a projection head with dropout."""
SCHEDULE = ["optim.schedule=cosine", "optim.warmup=4 steps"]
AVERAGED = ["train.ema=0.5"]


def runs_of(
    dataset_dir: Path, folder: Path, variants: dict[str, list[str]]
) -> dict[str, list[str]]:
    overrides = tiny_overrides(dataset_dir, folder) + VIDEO + MLP + SHIPPED_DROPOUT + SCHEDULE
    overrides += AVERAGED
    return {name: overrides + changes for name, changes in variants.items()}


@pytest.fixture(scope="module")
def alone(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Train on one rank, without ZeRO and without a stop."""
    folder = tmp_path_factory.mktemp("alone")
    runs = runs_of(dataset_dir, folder, {"alone": ["zero.stage=0"]})
    return run_ranks(train_runs, 1, folder, runs, 0, STEPS)[0]["alone"]


@pytest.fixture(scope="module")
def halves(
    dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """Train on two ranks at every stage, and stop half way."""
    folder = tmp_path_factory.mktemp("halves")
    return folder, run_ranks(train_runs, 2, folder, runs_of(dataset_dir, folder, VARIANTS), 0, HALF)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_on_two_ranks_has_the_losses_and_gradients_of_one(
    alone: dict[str, Any], halves: tuple[Path, list[dict[str, Any]]], variant: str
) -> None:
    _, ranks = halves
    for rank in ranks:
        outcome = rank[variant]
        assert outcome["losses"] == pytest.approx(alone["losses"][:HALF], abs=TOLERANCE)
        assert outcome["gradients"].keys() == alone["gradients"].keys()
        for name, gradient in alone["gradients"].items():
            assert outcome["gradients"][name] == pytest.approx(gradient, abs=TOLERANCE), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_encoding_on_two_ranks_encodes_each_distinct_item_once(
    halves: tuple[Path, list[dict[str, Any]]], alone: dict[str, Any], variant: str
) -> None:
    first, second = (rank[variant] for rank in halves[1])
    assert [
        one + other for one, other in zip(first["encoded"], second["encoded"], strict=True)
    ] == first["distinct"]
    assert alone["encoded"] == alone["distinct"]


@pytest.mark.parametrize("world_size", [1, 2])
def test_resume_on_another_number_of_ranks_has_the_same_losses(
    alone: dict[str, Any],
    halves: tuple[Path, list[dict[str, Any]]],
    dataset_dir: Path,
    tmp_path: Path,
    world_size: int,
) -> None:
    stopped, _ = halves
    runs = runs_of(dataset_dir, tmp_path, VARIANTS)
    results = run_ranks(train_runs, world_size, tmp_path, runs, HALF, STEPS, f"{stopped}/{{name}}")
    for variant, changes in VARIANTS.items():
        outcome = results[0][variant]
        assert outcome["losses"] == pytest.approx(alone["losses"][HALF:], abs=TOLERANCE), variant
        trained, averaged, trained_again = outcome["averaged"]
        assert trained == trained_again
        expected = trained if "train.ema=0" in changes else alone["averaged"][1]
        assert averaged == pytest.approx(expected, abs=TOLERANCE), variant


def test_resume_at_another_zero_stage_has_the_same_losses(
    alone: dict[str, Any],
    halves: tuple[Path, list[dict[str, Any]]],
    dataset_dir: Path,
    tmp_path: Path,
) -> None:
    stopped, _ = halves
    later = {"stage0": "stage3", "stage1": "stage2", "stage2": "stage1", "stage3": "stage0"}
    if HAS_COMPILER:
        later |= {"stage1": "offload", "offload": "stage2"}
    runs = runs_of(
        dataset_dir, tmp_path, {before: VARIANTS[after] for before, after in later.items()}
    )
    results = run_ranks(train_runs, 1, tmp_path, runs, HALF, STEPS, f"{stopped}/{{name}}")[0]
    for before, after in later.items():
        assert results[before]["losses"] == pytest.approx(alone["losses"][HALF:], abs=TOLERANCE), (
            before,
            after,
        )


def test_resume_over_two_one_four_and_two_ranks_has_the_same_losses(
    alone: dict[str, Any], dataset_dir: Path, tmp_path: Path
) -> None:
    variants = {name: VARIANTS[name] for name in ("stage1", "stage2", "stage3")}
    runs = runs_of(dataset_dir, tmp_path, variants)
    losses: dict[str, list[float]] = {name: [] for name in variants}
    for first, world_size in zip(range(0, STEPS, 3), (2, 1, 4, 2), strict=True):
        resume_from = f"{tmp_path}/{{name}}" if first else ""
        results = run_ranks(
            train_runs, world_size, tmp_path / f"from_{first}", runs, first, first + 3, resume_from
        )
        for name in variants:
            losses[name] += results[0][name]["losses"]
    for name in variants:
        assert losses[name] == pytest.approx(alone["losses"], abs=TOLERANCE), name


@pytest.mark.skipif(
    not HAS_COMPILER, reason="DeepSpeed compiles its CPU Adam with g++, which is not installed"
)
def test_variants_with_compiler_include_offload(halves: tuple[Path, list[dict[str, Any]]]) -> None:
    assert "offload" in halves[1][0]


def test_training_in_bf16_stays_near_the_fp32_losses(
    alone: dict[str, Any], dataset_dir: Path, tmp_path: Path
) -> None:
    variants = {name: [*VARIANTS[name], "train.precision=bf16"] for name in ("stage2", "stage3")}
    results = run_ranks(train_runs, 2, tmp_path, runs_of(dataset_dir, tmp_path, variants), 0, STEPS)
    for name in variants:
        assert results[0][name]["losses"] == pytest.approx(alone["losses"], abs=4e-2), name


def test_training_partly_frozen_on_two_ranks_saves_the_weights_of_one(
    dataset_dir: Path, tmp_path: Path
) -> None:
    tunings = {tuning: [f"item.tuning={tuning}"] for tuning in ("frozen", "top")}
    whole = {name: [*changes, "zero.stage=0"] for name, changes in tunings.items()}
    parted = {name: [*changes, "zero.stage=3"] for name, changes in tunings.items()}
    one = run_ranks(
        train_runs, 1, tmp_path / "one", runs_of(dataset_dir, tmp_path / "one", whole), 0, HALF
    )[0]
    two = run_ranks(
        train_runs, 2, tmp_path / "two", runs_of(dataset_dir, tmp_path / "two", parted), 0, HALF
    )[0]
    for name in tunings:
        assert two[name]["losses"] == pytest.approx(one[name]["losses"], abs=TOLERANCE), name
        weights = [
            dict(read_tensors(newest(tmp_path / world / name), WEIGHT)) for world in ("one", "two")
        ]
        assert weights[0].keys() == weights[1].keys()
        for key, tensor in weights[0].items():
            torch.testing.assert_close(weights[1][key], tensor, atol=TOLERANCE, rtol=0)
    stem = {
        name: dict(read_tensors(newest(tmp_path / "two" / name), WEIGHT))[
            "tower.encoders.0.stem.0.0.weight"
        ]
        for name in tunings
    }
    assert torch.equal(stem["frozen"], stem["top"]), "a frozen stage keeps its initial weights"
