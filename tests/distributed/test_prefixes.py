"""The activation cache over real ranks: the same losses at any ZeRO stage, and fewer reads."""

from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks, train_runs
from tiny import SHIPPED_DROPOUT, tiny_overrides

HALF, STEPS = 6, 9
"""Steps of two epochs, and of three."""
TOLERANCE = 1e-5
TRANSFORMER = (
    "{hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 32}"
)
FUSED = [
    "item.encoders=[video/videomae, text/bert_tiny, id/embedding]",
    f"item.options={{id/embedding: {{dropout: 0.3}}, "
    "video/videomae: {checkpoint: '', frames: 4, size: 32, projection: mlp, "
    f"config: {TRANSFORMER}}}, "
    "text/bert_tiny: {checkpoint: '', length: 12, config: {hidden_dropout_prob: 0.0, "
    f"attention_probs_dropout_prob: 0.0, {TRANSFORMER[1:]}}}}}",
]
TEXT_TRAINED = [FUSED[0], FUSED[1].replace("length: 12", "length: 12, tuning: full")]
"""Videos are cached, titles go through their encoder in each step."""
ADAPTED = [
    FUSED[0],
    FUSED[1]
    .replace("projection: mlp", "projection: mlp, lora: {stages: 1}")
    .replace("length: 12", "length: 12, lora: {stages: 2, dora: true}"),
]
"""Adapters in the deeper stages only, so that the others are cached."""
FRAMES = [
    FUSED[0].replace("videomae", "image_frames"),
    FUSED[1]
    .replace("video/videomae: {", "video/image_frames: {pooling: attention, ")
    .replace(f"config: {TRANSFORMER}", f"config: {{model_type: vit, {TRANSFORMER[1:]}"),
]
"""A trained pooling over the vectors of frames."""
OFF = ["item.prefix_cache_bytes=0"]
SMALL = ["item.prefix_cache_bytes=30000"]
"""Room for some items. An item has 8 x 16 and 12 x 16 numbers of 4 bytes, and 24 of 8 bytes."""
VARIANTS = {
    "top": ["item.tuning=top", "zero.stage=0", *FUSED],
    "half": ["item.tuning=half", "zero.stage=2", *FUSED],
    "top_stage3": ["item.tuning=top", "zero.stage=3", *FUSED],
    "text_trained": ["item.tuning=half", "zero.stage=3", *TEXT_TRAINED],
    "lora_stage3": ["item.tuning=lora", "zero.stage=3", *ADAPTED],
    "side_stage3": ["item.tuning=side", "item.inter_modal=true", "zero.stage=3", *FUSED],
    "frames_stage3": ["item.tuning=top", "zero.stage=3", *FRAMES],
    "small": ["item.tuning=top", "zero.stage=3", *FUSED, *SMALL],
}


def runs_of(dataset_dir: Path, folder: Path, changes: list[str] = []) -> dict[str, list[str]]:  # noqa: B006 - never changed
    overrides = [*tiny_overrides(dataset_dir, folder), "train.global_batch=40"]
    return {
        name: overrides + SHIPPED_DROPOUT + variant + changes for name, variant in VARIANTS.items()
    }


@pytest.fixture(scope="module")
def without(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Train on one rank, with all stages run in each step."""
    folder = tmp_path_factory.mktemp("without")
    return run_ranks(train_runs, 1, folder, runs_of(dataset_dir, folder, OFF), 0, STEPS)[0]


@pytest.fixture(scope="module")
def cached(
    dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """Train on two ranks with a cache, and stop after two epochs."""
    folder = tmp_path_factory.mktemp("cached")
    return folder, run_ranks(train_runs, 2, folder, runs_of(dataset_dir, folder), 0, HALF)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cache_on_two_ranks_changes_neither_losses_nor_gradients(
    without: dict[str, Any], cached: tuple[Path, list[dict[str, Any]]], variant: str
) -> None:
    expected = without[variant]
    for rank in cached[1]:
        assert rank[variant]["losses"] == pytest.approx(expected["losses"][:HALF], abs=TOLERANCE)
        for name, gradient in expected["gradients"].items():
            assert rank[variant]["gradients"][name] == pytest.approx(gradient, abs=TOLERANCE), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_cache_in_the_second_epoch_saves_the_reads_of_cached_items(
    without: dict[str, Any], cached: tuple[Path, list[dict[str, Any]]], variant: str
) -> None:
    def second_epoch(values: list[int]) -> int:
        return sum(values[HALF // 2 :])

    hits = sum(second_epoch(rank[variant]["hits"]) for rank in cached[1])
    share = hits / second_epoch(cached[1][0][variant]["distinct"])
    read = sum(second_epoch(rank[variant]["bytes_read"]) for rank in cached[1])
    all_read = second_epoch(without[variant]["bytes_read"][:HALF])
    assert all(rank[variant]["hits"][0] == 0 for rank in cached[1])
    if variant == "small":
        assert 0.1 < share < 0.9
    else:
        assert share > 0.9
    assert read / all_read == pytest.approx(1 - share, abs=0.1)


def test_cache_of_a_resumed_run_starts_empty_and_gives_the_same_losses(
    without: dict[str, Any],
    cached: tuple[Path, list[dict[str, Any]]],
    dataset_dir: Path,
    tmp_path: Path,
) -> None:
    runs = {
        name: run
        for name, run in runs_of(dataset_dir, tmp_path).items()
        if name in ("half", "top_stage3", "lora_stage3", "side_stage3", "frames_stage3", "small")
    }
    results = run_ranks(train_runs, 1, tmp_path, runs, HALF, STEPS, f"{cached[0]}/{{name}}")[0]
    for variant in runs:
        assert results[variant]["losses"] == pytest.approx(
            without[variant]["losses"][HALF:], abs=TOLERANCE
        ), variant
        assert results[variant]["hits"][0] == 0
        assert sum(results[variant]["hits"]) > 0
