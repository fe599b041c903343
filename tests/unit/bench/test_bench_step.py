"""mlrec bench step and eval: what they count, and that the padded baseline is the same step."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_encoders import SMALL
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from mlrec.bench import evaluation, step
from mlrec.bench.made_up import MadeUpSteps, MediaPool, data_of
from mlrec.bench.padded import RankPlan, encode_slots, slots_of
from mlrec.config import Config, DataConfig, ItemConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import Data
from mlrec.models.building import build_model
from mlrec.models.losses import LossConfig
from mlrec.runtime.distributed import World
from mlrec.runtime.flops import FlopCounter

WIDTH = 11
"""Training slots of a user under the paper's split."""


@pytest.fixture
def config(video_config: Config) -> Config:
    """A small VideoMAE, and the candidates that MicroLens' trainer has."""
    item = ItemConfig(("video/videomae",), {"video/videomae": SMALL["video/videomae"]}, chunk=32)
    return replace(video_config, item=item, loss=LossConfig(negatives="local", multiplicity=True))


def test_step_counts_what_the_plan_says(config: Config, data: Data, world: World) -> None:
    found = step.measure_step(config, data, world, steps=2, padded=True)

    plan = Plan(data.sequences, config.seed, config.train.global_batch, Owners((1,)))
    plans = [plan.step(number) for number in (1, 2)]
    users, items, slots = (
        sum(sizes) / 2
        for sizes in zip(
            *((len(p.users_G), len(p.items_U), int((p.slots_GT >= 0).sum())) for p in plans),
            strict=True,
        )
    )
    assert found["users_per_step"] == found["padded"]["users_per_step"] == users
    assert found["videos_per_step"] == items
    assert found["slots_per_video"] == pytest.approx(slots / items)
    assert found["padded"]["videos_per_step"] == users * WIDTH
    assert sum(found["seconds"].values()) == pytest.approx(found["step_s"])
    assert found["users_per_s"] == pytest.approx(users / found["step_s"])
    assert found["flops_per_step"] > 0 and found["peak_bytes"] >= found["step_bytes"]
    assert found["recomputes"] is False, "a few small items fit"
    assert len(found["speedups"]) == 2 and found["parameters"]["trained"] > 0


@pytest.mark.parametrize("recompute", ["always", "never"])
def test_padded_step_has_the_same_loss_and_gradient(
    config: Config, data: Data, recompute: str
) -> None:
    model = build_model(replace(config, item=replace(config.item, checkpoint=recompute)), data, 0)
    plan = Plan(data.sequences, 0, 20, Owners((1,)))
    own = MadeUpSteps(data, plan, 0, MediaPool(model.tower.specs), True, False)[0]
    alone = MadeUpSteps(data, RankPlan(plan, 20, 0), 0, None, True, False)[0]
    torch.testing.assert_close(slots_of(alone), slots_of(own))

    losses, gradients = [], []
    encode, pool = model.encode_owned, MediaPool(model.tower.specs, floats=True)
    for batch, encoder in (
        (own, encode),
        (alone, lambda b: encode_slots(model.tower, pool, 20 * WIDTH, b)),
    ):
        model.zero_grad()
        model.encode_owned = encoder  # type: ignore[method-assign]
        loss = model(batch)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_ranks_of_the_padded_step_share_the_users(data: Data) -> None:
    plan = Plan(data.sequences, 0, 20, Owners((2, 1)))
    shares = [RankPlan(plan, 20, rank).step(3) for rank in range(3)]
    assert [user for share in shares for user in share.users_G] == plan.users(3).tolist()
    assert all(share.owned_W == (len(share.items_U),) for share in shares)


def test_padding_is_zeros_and_ids_are_ids() -> None:
    video, ids = InputSpec(Modality.VIDEO, frames=2, size=8), InputSpec(Modality.ID)
    media = MediaPool([video, ids], floats=True).of(torch.tensor([0, 7, 7 + 64, 8]))
    assert media[video].dtype == torch.float32 and not media[video][0].any()
    assert media[video][1].equal(media[video][2]) and not media[video][1].equal(media[video][3])
    assert media[ids].tolist() == [0, 7, 71, 8]


def test_padded_form_of_the_whole_catalogue_is_refused(
    tiny_config: Config, data: Data, world: World
) -> None:
    config = replace(tiny_config, loss=LossConfig(name="full_softmax"))
    with pytest.raises(ValueError, match="--baseline padded"):
        step.measure_step(config, data, world, steps=1, padded=True)


def test_flops_are_counted_backward_and_in_repeated_forwards() -> None:
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


def test_eval_counts_users(tiny_config: Config, data: Data, world: World) -> None:
    config = replace(tiny_config, evaluate=replace(tiny_config.evaluate, user_chunk=30))
    found = evaluation.measure_ranking(config, data, world, steps=3)
    assert (found["users"], found["user_chunk"], found["catalogue_size"]) == (
        90,
        30,
        data.catalogue.size,
    )
    assert found["of_limit"] == pytest.approx(found["users_per_s"] / found["limit_users_per_s"])


def test_made_up_sequences_resemble_microlens() -> None:
    data = data_of(DataConfig())
    plan = Plan(data.sequences, 0, 480, Owners((1,))).step(0)
    assert (
        data.catalogue.popularity_N1.sum()
        == (data.sequences.train(np.arange(data.sequences.num_users)) > 0).sum()
    )
    assert (
        0.8 < len(plan.items_U) / 2020 < 1.2
        and 0.8 < (plan.slots_GT >= 0).sum() / (4.8 * 480) < 1.2
    )


def test_steps_below_one_are_refused(dataset_dir: str) -> None:
    for bench in (step, evaluation):
        with pytest.raises(ValueError, match="--steps is 0"):
            bench.run(
                argparse.Namespace(config=[f"data.url={dataset_dir}"], steps=0, baseline=None)
            )
