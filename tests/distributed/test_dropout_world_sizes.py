"""With the shipped dropout, one, two and four ranks have the same losses in fp32."""

from pathlib import Path

import pytest
from ranks import run_ranks, train_runs
from tiny import SHIPPED_DROPOUT, VIDEO, tiny_overrides

STEPS = 12
TRANSFORMER = (
    "{hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 32}"
)
TOP_TUNED = [
    *SHIPPED_DROPOUT,
    "item.encoders=[video/videomae, id/embedding]",
    "item.options={id/embedding: {dropout: 0.3}, "
    "video/videomae: {checkpoint: '', frames: 4, size: 32, projection: mlp, "
    f"config: {TRANSFORMER}}}}}",
    "item.tuning=top",
]
"""Frozen prefixes, a head with dropout, and dropped item ids."""
RUNS = {
    "id": ["recommender.options={dropout: 0.4, pre_norm: true}"],
    "video": [*SHIPPED_DROPOUT, *VIDEO, "item.checkpoint=always"],
    "top_cached": TOP_TUNED,
    "top_partly_cached": [*TOP_TUNED, "item.prefix_cache_bytes=20000"],
    "pairs": ["recommender.name=deepfm", "recommender.options={layers: 2, dropout: 0.1}"],
}


def test_dropout_on_one_two_and_four_ranks_has_the_same_losses(
    dataset_dir: Path, tmp_path: Path
) -> None:
    losses = {}
    for world_size in (1, 2, 4):
        folder = tmp_path / str(world_size)
        common = [*tiny_overrides(dataset_dir, folder), "zero.stage=2"]
        runs = {name: [*common, *changes] for name, changes in RUNS.items()}
        (losses[world_size], *_) = run_ranks(train_runs, world_size, folder, runs, 0, STEPS)
    for name in RUNS:
        alone = losses[1][name]["losses"]
        for world_size in (2, 4):
            assert losses[world_size][name]["losses"] == pytest.approx(alone, abs=1e-5), (
                name,
                world_size,
            )
