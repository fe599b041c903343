"""A table of ids that two ranks share, against the whole table on one rank, in fp32."""

from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks, train_runs
from skips import POISONED, skip_steps
from tiny import SHIPPED_DROPOUT, tiny_overrides

STEPS = 12
HALF = 6
TOLERANCE = 1e-5
VARIANTS = {
    "stage0": ["zero.stage=0"],
    "stage2": ["zero.stage=2"],
    "stage3": ["zero.stage=3", "item.options.id/embedding.width=24"],
}
SETTINGS = [
    "train.ema=0.5",
    "optim.schedule=cosine",
    "optim.encoder_lr=0.01",
    "optim.encoder_weight_decay=0.3",
    "optim.clip_norm=0.05",
]
"""Settings with which every part of the update counts; all gradients are clipped."""


def share_tables() -> None:
    """Let this process's ranks share tables of any size."""
    from mlrec.train import large_tables

    large_tables.MIN_SHARDED_WEIGHTS = 1


def train_sharded(*arguments: Any) -> Any:
    share_tables()
    return train_runs(*arguments)


def skip_steps_sharded(variants: dict[str, list[str]]) -> Any:
    share_tables()
    return skip_steps(variants)


def runs_of(dataset_dir: Path, folder: Path, names: tuple[str, ...]) -> dict[str, list[str]]:
    usual = tiny_overrides(dataset_dir, folder) + SHIPPED_DROPOUT + SETTINGS
    return {name: usual + VARIANTS[name] for name in names}


@pytest.fixture(scope="module")
def whole(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Train with whole tables on one rank."""
    folder = tmp_path_factory.mktemp("whole")
    runs = runs_of(dataset_dir, folder, tuple(VARIANTS))
    return run_ranks(train_runs, 1, folder, runs, 0, STEPS)[0]


@pytest.fixture(scope="module")
def halves(
    dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """Train with shared tables on two ranks, and stop half way."""
    folder = tmp_path_factory.mktemp("halves")
    runs = runs_of(dataset_dir, folder, tuple(VARIANTS))
    return folder, run_ranks(train_sharded, 2, folder, runs, 0, HALF)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sharded_table_on_two_ranks_has_the_losses_and_gradients_of_a_whole_one(
    whole: dict[str, Any], halves: tuple[Path, list[dict[str, Any]]], variant: str
) -> None:
    expected = whole[variant]
    for rank in halves[1]:
        outcome = rank[variant]
        assert outcome["losses"] == pytest.approx(expected["losses"][:HALF], abs=TOLERANCE)
        shared = expected["gradients"].keys() - outcome["gradients"].keys()
        assert shared == {"tower.encoders.0.embedding.weight"}
        for name, gradient in outcome["gradients"].items():
            assert gradient == pytest.approx(expected["gradients"][name], abs=TOLERANCE), name


@pytest.mark.parametrize(
    ("train", "world_size"), [(train_sharded, 1), (train_sharded, 3), (train_runs, 2)]
)
def test_sharded_table_resumes_on_any_number_of_ranks_and_as_a_whole(
    whole: dict[str, Any],
    halves: tuple[Path, list[dict[str, Any]]],
    dataset_dir: Path,
    tmp_path: Path,
    train: Any,
    world_size: int,
) -> None:
    stopped, _ = halves
    names = ("stage0", "stage3") if train is train_sharded else ("stage2",)
    runs = runs_of(dataset_dir, tmp_path, names)
    results = run_ranks(train, world_size, tmp_path, runs, HALF, STEPS, f"{stopped}/{{name}}")
    for name in names:
        outcome = results[0][name]
        assert outcome["losses"] == pytest.approx(whole[name]["losses"][HALF:], abs=TOLERANCE)
        # By the trained, the averaged and again the trained weights.
        assert outcome["averaged"] == pytest.approx(whole[name]["averaged"], abs=TOLERANCE)
        assert outcome["averaged"][0] == outcome["averaged"][2]


def test_update_with_non_finite_gradient_changes_no_row_of_a_sharded_table(
    dataset_dir: Path, tmp_path: Path
) -> None:
    usual = tiny_overrides(dataset_dir, tmp_path)
    variants = {name: [*usual, *VARIANTS[name]] for name in VARIANTS}
    for rank in run_ranks(skip_steps_sharded, 2, tmp_path, variants):
        for name in VARIANTS:
            outcome = rank[name]
            skipped_steps = [step for step, skipped in enumerate(outcome["skipped"]) if skipped]
            assert skipped_steps == sorted(POISONED), name
            assert outcome["changed"] == [], name
            assert outcome["resumed"] == pytest.approx(outcome["losses"][4:], abs=TOLERANCE), name
