"""Metrics per user and their means per group."""

import numpy as np
import pytest

from mlrec.config.metric_names import cutoffs_of, main_cutoff, metric_names
from mlrec.evaluation.metrics import summarize, user_metrics


def test_user_metrics_without_ties_follow_the_rank() -> None:
    metrics = user_metrics(np.array([0, 9, 10, 24]), np.zeros(4, dtype=int), 50)
    assert metrics["hr@10"].tolist() == [1, 1, 0, 0]
    assert metrics["hr@20"].tolist() == [1, 1, 1, 0]
    assert metrics["ndcg@10"] == pytest.approx([1, 1 / np.log2(11), 0, 0])
    assert metrics["mrr"] == pytest.approx([1, 1 / 10, 1 / 11, 1 / 25])


def test_user_metrics_with_ties_are_expected_values() -> None:
    # Three other items share the target's score, so ranks 9 to 12 are equally likely.
    metrics = user_metrics(np.array([8]), np.array([3]), 50)
    assert metrics["hr@10"] == pytest.approx([0.5])
    assert metrics["ndcg@10"] == pytest.approx([(1 / np.log2(10) + 1 / np.log2(11)) / 4])
    assert metrics["mrr"] == pytest.approx([np.mean([1 / 9, 1 / 10, 1 / 11, 1 / 12])])


def test_user_metrics_of_a_constant_score_equal_chance() -> None:
    assert user_metrics(np.array([0]), np.array([99]), 100)["hr@10"] == pytest.approx([0.1])


def test_summarize_groups_users_by_the_targets_popularity() -> None:
    summary = summarize({"hr@10": np.array([1.0, 0.0, 1.0])}, np.array([0, 3, 4]))
    assert summary == {
        "all": {"users": 3, "hr@10": pytest.approx(2 / 3)},
        "cold": {"users": 1, "hr@10": 1.0},
        "1-5": {"users": 2, "hr@10": 0.5},
    }


def test_user_metrics_at_other_cutoffs_count_ranks_up_to_them() -> None:
    better = np.array([0, 4, 5, 60])
    metrics = user_metrics(better, np.zeros(4, int), 100, metric_names([5, 100]))
    assert list(metrics) == ["hr@5", "hr@100", "ndcg@5", "ndcg@100", "mrr"]
    assert metrics["hr@5"].tolist() == [1, 1, 0, 0]
    assert metrics["hr@100"].tolist() == [1, 1, 1, 1]


def test_main_cutoff_is_10_or_the_smallest() -> None:
    assert main_cutoff(cutoffs_of(["users", "hr@5", "hr@10", "mrr", "hr@x"])) == 10
    assert main_cutoff(cutoffs_of(["hr@50", "ndcg@5"])) == 5
    assert main_cutoff(cutoffs_of([])) == 10
