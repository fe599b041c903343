"""Formulas of memory, items and time, compared with figures known from elsewhere."""

from __future__ import annotations

import pytest

from mlrec.models.formulas import (
    Partition,
    StepBytes,
    StepSeconds,
    allowance_bytes,
    decode_s,
    distinct_items,
    exchange_bytes,
    exchange_s,
    most_items,
    ranking_bytes,
    state_bytes,
)


def partition(
    stage: int = 0, width: int = 4, ranks: int = 4, averages: bool = False, offload: bool = False
) -> Partition:
    return Partition(
        ranks=ranks,
        stage=stage,
        width=width,
        bucket_elements=40,
        gathered_elements=70,
        has_averages=averages,
        offload_optimizer=offload,
    )


@pytest.mark.parametrize(
    ("stage", "width", "expected"),
    [
        (0, 4, (400, 160, 0, 320)),
        (1, 4, (400, 160, 160, 120)),
        (1, 2, (200, 80, 80, 120)),
        (2, 2, (200, 20, 80, 120)),
        (3, 2, (50, 20, 80, 120)),
    ],
)
def test_state_bytes_at_each_zero_stage_are_partitioned(
    stage: int, width: int, expected: tuple[int, ...]
) -> None:
    state = state_bytes(40, 100, 0, partition(stage, width))
    assert (state.parameters, state.gradients, state.bucket, state.optimizer) == expected
    assert state.averages == 0
    # At stage 3, 70 of the 100 parameters stay gathered.
    gathered = 2 * 70 if stage == 3 else 0
    assert state.gathered == gathered
    assert state.on_device(offload_optimizer=True) == sum(expected[:3]) + gathered
    assert state.on_device(offload_optimizer=False) == sum(expected) + gathered


def test_state_bytes_with_averages_count_one_per_trained_parameter() -> None:
    assert state_bytes(40, 100, 0, partition(0, averages=True)).averages == 160
    assert state_bytes(40, 100, 0, partition(2, averages=True)).averages == 40


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (partition(0), (4 * 60 + 4 * 10, 0, 0, 8 * 10, 0)),
        (partition(0, averages=True), (4 * 60 + 4 * 10, 0, 0, 8 * 10, 4 * 10)),
        # The weights lie next to their moments.
        (partition(2, offload=True), (4 * 60, 0, 160, 12 * 10, 0)),
    ],
)
def test_state_bytes_of_a_shared_table_are_partitioned_at_every_stage(
    rules: Partition, expected: tuple[int, ...]
) -> None:
    state = state_bytes(40, 100, 40, rules)
    parts = (state.parameters, state.gradients, state.bucket, state.optimizer, state.averages)
    assert parts == expected


@pytest.mark.parametrize(
    ("users", "planned"), [(119.9, 551.1), (476.3, 1974.5), (3846.3, 8973.3), (12_500, 14_224.3)]
)
def test_distinct_items_are_those_of_plans_of_microlens_50k(users: float, planned: float) -> None:
    # Mean of 16 steps of mlrec.data.plan, for 239,511 training interactions of 50,000 users.
    assert distinct_items(users * 239_511 / 50_000, 19_220) == pytest.approx(planned, rel=0.025)


def test_distinct_items_are_at_most_the_catalogue() -> None:
    assert distinct_items(1e9, 100) == pytest.approx(100)
    assert distinct_items(1.0, 1 << 24) == pytest.approx(1.0, rel=1e-3)
    assert most_items(99.0, 100) == 100
    assert most_items(1974.5, 19_220) == 2064


def test_step_bytes_are_those_of_the_larger_phase() -> None:
    assert StepBytes(held=10, chunk=5, gradient_sums=2, recommender=3).most == 17
    assert StepBytes(held=10, chunk=5, gradient_sums=2, recommender=30).most == 40


def test_ranking_bytes_hold_scores_and_item_vectors() -> None:
    in_fp32 = ranking_bytes(256, 1000, vector_width=64, width=4, compared_values=1 << 20)
    assert in_fp32.scores == 4 * 256 * 1000
    assert in_fp32.comparisons == 4 << 20
    assert in_fp32.vectors == 2 * 4 * 1000 * 64
    in_bf16 = ranking_bytes(256, 1000, vector_width=64, width=2, compared_values=1)
    assert in_bf16.vectors == (4 + 2 + 4) * 1000 * 64
    assert in_bf16.comparisons == 4 * 1000
    assert in_bf16.most == in_bf16.scores + in_bf16.comparisons + in_bf16.vectors


def test_allowance_is_for_gpus_alone() -> None:
    assert allowance_bytes(1e9, ranks=8, on_gpu=False) == 0
    alone = allowance_bytes(1e9, ranks=1, on_gpu=True)
    assert 6e8 < alone < allowance_bytes(1e9, ranks=8, on_gpu=True) < 1.2e9


def test_exchange_bytes_gather_weights_once_per_pass_at_stage_3() -> None:
    assert exchange_bytes(10, gradient_bytes=7, weight_bytes=9, stage=2, passes=5) == 34
    assert exchange_bytes(10, gradient_bytes=7, weight_bytes=9, stage=3, passes=5) == 72


def test_exchange_takes_no_time_on_one_rank_and_longer_between_nodes() -> None:
    assert exchange_s(1e9, ranks=1, nodes=1, interconnect_bytes_per_s=1e9) == 0
    within = exchange_s(1e9, ranks=8, nodes=1, interconnect_bytes_per_s=4.5e11)
    between = exchange_s(1e9, ranks=8, nodes=2, interconnect_bytes_per_s=4.5e11)
    assert 0 < within < between


def test_step_seconds_are_those_of_the_slower_of_device_and_loader() -> None:
    parts = {"encode": 3.0, "recommend": 1.0, "exchange": 0.5, "optimizer": 0.5}
    assert StepSeconds(**parts, load=4.0, loads_ahead=True).step == 5.0
    waiting = StepSeconds(**parts, load=6.0, loads_ahead=True)
    assert waiting.step == 6.0
    assert waiting.waits_for_loader
    assert StepSeconds(**parts, load=6.0, loads_ahead=False).step == 11.0


def test_decode_takes_a_fifth_of_a_millisecond_per_frame_and_core() -> None:
    assert decode_s(10, 5 * 224 * 224, workers=2) == pytest.approx(5e-3)
