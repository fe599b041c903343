"""Ranks under a split by time, where users have nothing to train on or no target."""

from pathlib import Path

import pytest
from ranks import rank_untrained, run_ranks, train_runs
from timed import Log, pack_log
from tiny import tiny_overrides

# Seven users to train on, one validation target and two test targets.
LOG: Log = {str(user): [(time, user + time) for time in range(4)] for user in range(1, 8)}
LOG["1"] += [(11, 9), (21, 10)]
LOG["8"] = [(20, 1), (22, 3)]


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("time_split")
    data_set = pack_log(folder, LOG, "10", "20", 13)
    return [*tiny_overrides(data_set, folder), "train.global_batch=4"]


def test_evaluate_with_fewer_targets_than_ranks_equals_one_rank(
    overrides: list[str], tmp_path: Path
) -> None:
    (alone,) = run_ranks(rank_untrained, 1, tmp_path / "one", overrides)
    assert [alone[split]["users"] for split in ("validation", "test")] == [1, 2]
    for metrics in run_ranks(rank_untrained, 3, tmp_path / "three", overrides):
        for split, expected in alone.items():
            assert metrics[split] == pytest.approx(expected, abs=1e-6)


def test_training_on_two_ranks_has_the_losses_of_one(overrides: list[str], tmp_path: Path) -> None:
    runs = {"one": [*overrides, "zero.stage=0"]}
    alone = run_ranks(train_runs, 1, tmp_path / "one", runs, 0, 4)[0]["one"]["losses"]
    runs = {"two": [*overrides, "zero.stage=3"]}
    two = run_ranks(train_runs, 2, tmp_path / "two", runs, 0, 4)[0]["two"]["losses"]
    assert two == pytest.approx(alone, abs=1e-5)
    assert all(loss > 0 for loss in alone)
