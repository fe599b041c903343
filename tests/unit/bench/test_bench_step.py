"""mlrec bench step and eval: their counts, and the baselines, which take the same step."""

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_encoders import SMALL
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from mlrec.bench import evaluation, step
from mlrec.bench.made_up import MadeUpSteps, MediaPool, data_of
from mlrec.bench.padded import PaddedBaseline, RankPlan, encode_slots
from mlrec.config import Config, DataConfig, ItemConfig, OptimConfig, RecommenderConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch, InputSpec, Modality
from mlrec.data.stream import Data
from mlrec.models.building import build_model
from mlrec.models.losses import LossConfig
from mlrec.models.recommender import NO_HOOKS, ForwardHooks
from mlrec.runtime.distributed import World
from mlrec.runtime.flops import FlopCounter
from mlrec.train import large_tables

SLOTS_PER_USER = 11
"""Training slots of a user under the paper's split."""


@pytest.fixture
def config(video_config: Config) -> Config:
    """A small VideoMAE, with the candidates of MicroLens' trainer."""
    item = ItemConfig(("video/videomae",), {"video/videomae": SMALL["video/videomae"]}, chunk=32)
    return replace(video_config, item=item, loss=LossConfig(negatives="local", multiplicity=True))


def test_measure_step_counts_equal_the_plan(config: Config, data: Data, world: World) -> None:
    figures = step.measure_step(config, data, world, steps=2, baseline="padded").as_json()

    plan = Plan(data.sequences, config.seed, config.train.global_batch, Owners((1,)))
    plans = [plan.step(1), plan.step(2)]
    users = sum(len(planned.users_G) for planned in plans) / 2
    items = sum(len(planned.items_U) for planned in plans) / 2
    slots = sum(int((planned.slots_GT >= 0).sum()) for planned in plans) / 2
    assert figures["users_per_step"] == figures["padded"]["users_per_step"] == users
    assert figures["videos_per_step"] == items
    assert figures["slots_per_video"] == pytest.approx(slots / items)
    assert figures["padded"]["videos_per_step"] == users * SLOTS_PER_USER
    assert sum(figures["seconds"].values()) == pytest.approx(figures["step_s"])
    assert all(seconds > 0 for seconds in figures["seconds"].values())
    assert figures["users_per_s"] == pytest.approx(users / figures["step_s"])
    assert figures["flops_per_step"] > 0
    assert figures["peak_bytes"] >= figures["step_bytes"]
    assert figures["recomputes"] is False, "a few small items fit"
    assert len(figures["speedups"]) == 2 and figures["parameters"]["trained"] > 0


@pytest.mark.parametrize("activation_checkpointing", ["always", "never"])
def test_padded_step_has_the_same_loss_and_gradient(
    config: Config, data: Data, activation_checkpointing: str
) -> None:
    item = replace(config.item, checkpoint=activation_checkpointing)
    model = build_model(replace(config, item=item), data, 0)
    plan = Plan(data.sequences, 0, 20, Owners((1,)))
    batch = MadeUpSteps(data, plan, 0, MediaPool(model.tower.specs), True, False)[0]
    padded_batch = MadeUpSteps(data, RankPlan(plan, 20, 0), 0, None, True, False)[0]
    torch.testing.assert_close(padded_batch.slots(), batch.slots())
    pool = MediaPool(model.tower.specs, floats=True)

    def encode_padded(batch: Batch) -> torch.Tensor:
        return encode_slots(model.tower, pool, 20 * SLOTS_PER_USER, batch)

    losses = []
    gradients = []
    for step_batch, hooks in (
        (batch, NO_HOOKS),
        (padded_batch, ForwardHooks(encode=encode_padded)),
    ):
        model.zero_grad()
        loss = model(step_batch, hooks)
        loss.backward()
        losses.append(loss.detach())
        trained = [p for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in trained]))
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_rank_plan_three_ranks_share_the_users(data: Data) -> None:
    plan = Plan(data.sequences, 0, 20, Owners((2, 1)))
    shares = [RankPlan(plan, 20, rank).step(3) for rank in range(3)]
    assert [user for share in shares for user in share.users_G] == plan.users(3).tolist()
    assert all(share.owned_W == (len(share.items_U),) for share in shares)


def test_media_pool_padding_is_zeros_and_ids_are_ids() -> None:
    video = InputSpec(Modality.VIDEO, frames=2, size=8)
    ids = InputSpec(Modality.ID)
    media = MediaPool([video, ids], floats=True).of(torch.tensor([0, 7, 7 + 64, 8]))
    assert media[video].dtype == torch.float32 and not media[video][0].any()
    assert media[video][1].equal(media[video][2]) and not media[video][1].equal(media[video][3])
    assert media[ids].tolist() == [0, 7, 71, 8]


def test_measure_step_padded_whole_catalogue_is_refused(
    tiny_config: Config, data: Data, world: World
) -> None:
    config = replace(tiny_config, loss=LossConfig(name="full_softmax"))
    with pytest.raises(ValueError, match=r"--baseline padded .* sasrec with full_softmax"):
        step.measure_step(config, data, world, steps=1, baseline="padded")


def test_measure_step_padded_with_a_shared_table_needs_one_rank(
    tiny_config: Config, data: Data, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_tables, "MIN_SHARDED_WEIGHTS", 1)
    measured = step.measure_step(tiny_config, data, world, steps=1, baseline="padded")
    assert measured.baseline is not None
    model = build_model(tiny_config, data, 0)
    plan = Plan(data.sequences, 0, 20, Owners((2,)))
    with pytest.raises(ValueError, match=r"tower.encoders.0.embedding.weight on 2 ranks"):
        PaddedBaseline(tiny_config, data, plan, model, replace(world, size=2, nodes=(2,)))


def test_flop_counter_counts_backward_and_repeated_forward() -> None:
    left, right = torch.ones(4, 8), torch.ones(8, 2, requires_grad=True)
    with FlopCounter() as counter:
        checkpoint(lambda: (left @ right).tanh().sum(), use_reentrant=False).backward()
    assert counter.total == 3 * 2 * 4 * 8 * 2, (
        "the product, the product again, and the gradient of one operand"
    )

    attended = torch.ones(1, 2, 5, 8, requires_grad=True)
    with FlopCounter() as counter:
        scaled_dot_product_attention(attended, attended, attended)
    assert counter.total == 2 * (2 * 2 * 5 * 5 * 8), "queries with keys, then with values"


def test_measure_ranking_counts_users(tiny_config: Config, data: Data, world: World) -> None:
    config = replace(tiny_config, evaluate=replace(tiny_config.evaluate, user_chunk=30))
    figures = evaluation.measure_ranking(config, data, world, steps=3)
    assert figures.users == 90
    assert figures.user_chunk == 30
    assert figures.catalogue_size == data.catalogue.size
    assert figures.of_limit == pytest.approx(figures.users_per_s / figures.limit_users_per_s)


def test_made_up_sequences_resemble_microlens() -> None:
    data = data_of(DataConfig())
    plan = Plan(data.sequences, 0, 480, Owners((1,))).step(0)
    train_slots = data.sequences.train(np.arange(data.sequences.num_users)) > 0
    assert data.catalogue.popularity_N1.sum() == train_slots.sum()
    assert 0.8 < len(plan.items_U) / 2020 < 1.2
    assert 0.8 < (plan.slots_GT >= 0).sum() / (4.8 * 480) < 1.2


def test_run_steps_below_one_are_refused(dataset_dir: str) -> None:
    options = argparse.Namespace(config=[f"data.url={dataset_dir}"], steps=0, baseline=None)
    for bench in (step, evaluation):
        with pytest.raises(ValueError, match="--steps is 0"):
            bench.run(options)


@pytest.mark.parametrize(
    ("options", "cosine", "loss"),
    [
        ({"layers": 1}, False, LossConfig()),
        ({"pre_norm": True}, True, LossConfig(multiplicity=True, logq=False, temperature=0.1)),
        ({"heads": 4}, False, LossConfig(multiplicity=True, negatives="local")),
    ],
)
def test_measure_step_plain_loss_equals_mlrecs(
    tiny_config: Config,
    data: Data,
    world: World,
    options: dict[str, Any],
    cosine: bool,
    loss: LossConfig,
) -> None:
    recommender = replace(
        tiny_config.recommender, options={"dropout": 0.0, **options}, cosine=cosine
    )
    # Clipping, decay of both groups and the schedule all change the weights of the later steps.
    optim = OptimConfig(
        lr=1e-2,
        encoder_lr=3e-2,
        weight_decay=0.5,
        encoder_weight_decay=1.0,
        clip_norm=0.5,
        warmup="2 steps",
        schedule="cosine",
    )
    config = replace(tiny_config, recommender=recommender, loss=loss, optim=optim)
    figures = step.measure_step(config, data, world, steps=4, baseline="plain").as_json()

    ours, plain = zip(*figures["losses"], strict=True)
    assert plain == pytest.approx(ours, abs=1e-5)
    assert len(set(ours)) == 4
    assert figures["plain"]["users_per_step"] == figures["users_per_step"]
    assert figures["plain"]["videos_per_step"] == figures["videos_per_step"]
    assert figures["cpu_ratio"] == pytest.approx(figures["cpu_s"] / figures["plain"]["cpu_s"])
    assert figures["ratio"] == pytest.approx(1 / figures["speedup"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"item": ItemConfig(("video/tiny",))}, r"item.encoders is \['video/tiny'\]"),
        ({"recommender": RecommenderConfig("gru4rec")}, r"recommender.name is 'gru4rec'"),
        ({"loss": LossConfig("bpr")}, r"loss.name is 'bpr'.* Set it to 'in_batch_softmax'"),
    ],
)
def test_measure_step_plain_other_models_are_refused(
    tiny_config: Config, data: Data, world: World, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match="--baseline plain .*" + words):
        step.measure_step(replace(tiny_config, **changes), data, world, steps=1, baseline="plain")
