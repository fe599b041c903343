"""Steps whose gradient or loss is not finite, on one rank of two, at every ZeRO stage."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks
from skips import POISONED, skip_steps
from tiny import tiny_overrides

VARIANTS = {
    "stage0": ["zero.stage=0"],
    "unclipped0": ["zero.stage=0", "optim.clip_norm=0"],
    "stage1": ["zero.stage=1"],
    "stage2": ["zero.stage=2"],
    "stage3": ["zero.stage=3", "zero.options={stage3_param_persistence_threshold: 0}"],
    "bf16_2": ["zero.stage=2", "train.precision=bf16"],
    "bf16_3": ["zero.stage=3", "train.precision=bf16"],
}
if shutil.which("g++") is not None:
    VARIANTS["offload3"] = ["zero.stage=3", "zero.offload_optimizer=true"]
    VARIANTS["offload_bf16_2"] = [
        "zero.stage=2",
        "zero.offload_optimizer=true",
        "train.precision=bf16",
    ]


@pytest.fixture(scope="module")
def ranks(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("skips")
    variants = {
        name: tiny_overrides(dataset_dir, folder) + changes for name, changes in VARIANTS.items()
    }
    return run_ranks(skip_steps, 2, folder, variants)


@pytest.mark.parametrize("variant", VARIANTS)
def test_update_with_non_finite_gradient_changes_nothing_on_any_rank(
    ranks: list[dict[str, Any]], variant: str
) -> None:
    for rank in ranks:
        outcome = rank[variant]
        skipped_steps = [step for step, skipped in enumerate(outcome["skipped"]) if skipped]
        assert skipped_steps == sorted(POISONED)
        assert outcome["changed"] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_after_skipped_steps_repeats_the_uninterrupted_losses(
    ranks: list[dict[str, Any]], variant: str
) -> None:
    outcome = ranks[0][variant]
    tolerance = 4e-2 if "bf16" in variant else 1e-5
    assert outcome["resumed"] == pytest.approx(outcome["losses"][4:], abs=tolerance)
    assert outcome["carried"] == [2, 2]
    assert outcome["counts"] == [3, 0, 5.0], "Adam counted the steps that were taken"


@pytest.mark.parametrize(
    "variant", [name for name in VARIANTS if "bf16" not in name and "unclipped" not in name]
)
def test_losses_after_skipped_steps_do_not_depend_on_the_stage(
    ranks: list[dict[str, Any]], variant: str
) -> None:
    expected = [
        loss for step, loss in enumerate(ranks[0]["stage0"]["losses"]) if step not in POISONED
    ]
    losses = [loss for step, loss in enumerate(ranks[0][variant]["losses"]) if step not in POISONED]
    assert losses == pytest.approx(expected, abs=1e-5)
