"""Settings of small runs on the tiny data set."""

from pathlib import Path

NUM_USERS = 120
NUM_ITEMS = 60


def tiny_overrides(dataset_dir: Path, folder: Path) -> list[str]:
    """Return the settings of a small run on the tiny data set. It writes only below `folder`."""
    return [
        f"data.url={dataset_dir}",
        f"data.cache_dir={folder}/cache",
        f"run_dir={folder}/{{name}}",
        "data.num_workers=0",
        "recommender.width=16",
        "recommender.options={dropout: 0.0}",
        "train.global_batch=18",
        "train.duration=12 steps",
        "train.log_every=1 steps",
        "train.save_every=6 steps",
        "item.chunk=8",
        # what auto is on a CPU; tests that call no entry point have nothing to resolve it
        "train.precision=fp32",
    ]


VIDEO = ["item.encoders=[video/tiny]", "item.options={video/tiny: {size: 32, width: 16}}"]
SHIPPED_DROPOUT = ["recommender.options={layers: 2, heads: 2, dropout: 0.1}"]
"""Options of configs/recommender/sasrec.yaml, with its dropout."""
