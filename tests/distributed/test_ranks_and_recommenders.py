"""Two ranks have the losses of one, for recommenders and losses of every kind, with dropout."""

from pathlib import Path

import pytest
from ranks import run_ranks, train_runs
from tiny import tiny_overrides

KINDS = {
    "sasrec_full_softmax": ["loss.name=full_softmax"],
    "gru4rec_sampled_softmax": [
        "recommender.name=gru4rec",
        "loss.name=sampled_softmax",
        "loss.sampled=5",
    ],
    "hstu": ["recommender.name=hstu"],
    "nextitnet": ["recommender.name=nextitnet"],
    "dssm_bpr": ["recommender.name=dssm", "loss.name=bpr"],
    "decayed_mean": ["recommender.name=decayed_mean", "loss.temperature=0.07"],
    "nfm_bce": ["recommender.name=nfm", "loss.name=bce"],
    "deepfm": ["recommender.name=deepfm"],
    "lightgcn_bpr": ["recommender.name=lightgcn", "loss.name=bpr"],
    "mmgcn": ["recommender.name=mmgcn"],
    "grcn": ["recommender.name=grcn"],
}
STAGES = {"stage2": ["zero.stage=2"], "stage3": ["zero.stage=3"]}


def test_training_every_recommender_on_two_ranks_has_the_losses_of_one(
    dataset_dir: Path, tmp_path: Path
) -> None:
    common = [
        setting
        for setting in tiny_overrides(dataset_dir, tmp_path)
        if not setting.startswith("recommender.options")
    ]
    whole = {kind: [*common, *changes, "zero.stage=0"] for kind, changes in KINDS.items()}
    parted = {
        f"{kind}_{stage}": [*common, *changes, *zero]
        for kind, changes in KINDS.items()
        for stage, zero in STAGES.items()
    }
    alone = run_ranks(train_runs, 1, tmp_path / "one", whole, 0, 3)[0]
    two = run_ranks(train_runs, 2, tmp_path / "two", parted, 0, 3)[0]
    for kind in KINDS:
        for stage in STAGES:
            assert two[f"{kind}_{stage}"]["losses"] == pytest.approx(
                alone[kind]["losses"], abs=1e-5
            ), (kind, stage)
