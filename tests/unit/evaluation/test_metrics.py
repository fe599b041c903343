import numpy as np
import pytest

from mlrec.evaluation.metrics import summarize, user_metrics


def test_user_metrics_without_ties_follow_the_rank() -> None:
    found = user_metrics(np.array([0, 9, 10, 24]), np.zeros(4, dtype=int), 50)
    assert found["hr@10"].tolist() == [1, 1, 0, 0]
    assert found["hr@20"].tolist() == [1, 1, 1, 0]
    assert found["ndcg@10"] == pytest.approx([1, 1 / np.log2(11), 0, 0])
    assert found["mrr"] == pytest.approx([1, 1 / 10, 1 / 11, 1 / 25])


def test_user_metrics_with_ties_are_expected_values() -> None:
    found = user_metrics(np.array([8]), np.array([3]), 50)  # ranks 9, 10, 11, 12 with equal chance
    assert found["hr@10"] == pytest.approx([0.5])
    assert found["ndcg@10"] == pytest.approx([(1 / np.log2(10) + 1 / np.log2(11)) / 4])
    assert found["mrr"] == pytest.approx([np.mean([1 / 9, 1 / 10, 1 / 11, 1 / 12])])


def test_user_metrics_of_a_constant_score_equal_chance() -> None:
    assert user_metrics(np.array([0]), np.array([99]), 100)["hr@10"] == pytest.approx([0.1])


def test_summarize_groups_users_by_the_targets_popularity() -> None:
    found = summarize({"hr@10": np.array([1.0, 0.0, 1.0])}, np.array([0, 3, 4]))
    assert found == {
        "all": {"users": 3, "hr@10": pytest.approx(2 / 3)},
        "cold": {"users": 1, "hr@10": 1.0},
        "1-5": {"users": 2, "hr@10": 0.5},
    }
