"""Every row of LOSSES, compared with a plain computation of each position."""

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from mlrec.config import Config, LossConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch, Scored
from mlrec.data.stream import Data, StepDataset
from mlrec.models.building import build_model
from mlrec.models.losses import LOSSES, draw_negatives

ITEMS = 9
POSITIONS = 7
SAMPLED = 4


@pytest.fixture
def scored() -> Scored:
    """Return random scores of 7 positions. Item 7 is not a candidate, item 8 cannot be read."""
    generator = torch.Generator().manual_seed(0)
    target_P = torch.randint(7, (POSITIONS,), generator=generator)
    own_PT = torch.randint(-1, ITEMS, (POSITIONS, 3), generator=generator)
    # the target, and an item that repeats
    own_PT = torch.cat([own_PT[:, :1], own_PT, target_P[:, None]], dim=1)
    count_U = torch.tensor([1, 2, 3, 1, 1, 4, 1, 0, 1])
    share_U = torch.rand(ITEMS, generator=generator) + 0.1
    none = torch.empty(0, dtype=torch.int64)
    batch = Batch(
        step=5,
        users_B=none,
        items_U=torch.arange(1, ITEMS + 1),
        count_U=count_U,
        targets_U=none,
        log_p_U=(share_U / share_U.sum()).log(),
        owned_W=(ITEMS,),
        items_O=none,
        media={},
        valid_O=none,
        inputs_BL=none,
        targets_BL=none,
    )
    scores_PU = torch.randn(POSITIONS, ITEMS, generator=generator)

    def scores(at: torch.Tensor | None) -> torch.Tensor:
        return scores_PU if at is None else scores_PU.gather(1, at)

    return Scored(
        scores, target_P, own_PT, torch.arange(100, 100 + POSITIONS), batch, torch.arange(ITEMS) < 8
    )


def negatives(scored: Scored, position: int) -> list[int]:
    items = []
    for item in range(ITEMS):
        is_candidate = scored.batch.count_U[item] > 0 and scored.valid_U[item]
        if is_candidate and item not in scored.own_PT[position]:
            items.append(item)
    return items


def expected(name: str, scored: Scored, position: int, logq: bool = True) -> float:
    target = int(scored.target_P[position])
    scores = scored.scores(None)[position].tolist()
    corrected = (scored.scores(None)[position] - logq * scored.batch.log_p_U).tolist()

    def softmax(values: list[float], chosen: float) -> float:
        return math.log(sum(map(math.exp, values))) - chosen

    drawn = draw_negatives(scored, SAMPLED if name == "sampled_softmax" else 1, seed=3)
    assert drawn.exist_P.all()
    drawn_items = drawn.items_PK[position].tolist()
    one = scores[drawn_items[0]]
    if name == "in_batch_softmax":
        compared = [target, *negatives(scored, position)]
        return softmax([corrected[item] for item in compared], corrected[target])
    if name == "full_softmax":
        return softmax(scores[:8], scores[target])
    if name == "sampled_softmax":
        return softmax([corrected[item] for item in [target, *drawn_items]], corrected[target])
    if name == "bpr":
        return -math.log(1 / (1 + math.exp(one - scores[target])))
    return -math.log(1 / (1 + math.exp(-scores[target]))) - math.log(1 - 1 / (1 + math.exp(-one)))


@pytest.mark.parametrize("name", LOSSES)
def test_loss_equals_a_plain_computation(name: str, scored: Scored) -> None:
    losses = LOSSES[name](LossConfig(name=name, sampled=SAMPLED), 3)(scored)
    plain_losses = [expected(name, scored, position) for position in range(POSITIONS)]
    assert losses.tolist() == pytest.approx(plain_losses, abs=1e-5)


@pytest.mark.parametrize("name", ["in_batch_softmax", "sampled_softmax"])
def test_softmax_without_logq_compares_plain_scores(name: str, scored: Scored) -> None:
    losses = LOSSES[name](LossConfig(name=name, sampled=SAMPLED, logq=False), 3)(scored)
    plain_losses = [expected(name, scored, at, logq=False) for at in range(POSITIONS)]
    assert losses.tolist() == pytest.approx(plain_losses, abs=1e-5)


@pytest.mark.parametrize("name", ["full_softmax", "bpr", "bce"])
def test_loss_without_a_correction_refuses_logq_false(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"logq=false belongs to the in-batch and sampled softmax, not to {name}"
    ):
        LOSSES[name](LossConfig(name=name, logq=False), 0)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_takes_the_keys_that_it_lists_alone(name: str) -> None:
    settings: dict[str, Any] = {"negatives": "local", "multiplicity": True, "logq": False}
    for key, value in settings.items():
        refused = nullcontext() if f"loss.{key}" in LOSSES[name].keys else pytest.raises(ValueError)
        with refused:
            LOSSES[name](replace(LossConfig(name=name), **{key: value}), 0)


def test_draw_negatives_draws_the_positions_negatives_uniformly(scored: Scored) -> None:
    drawn = draw_negatives(scored, 4000, seed=0).items_PK
    for position in range(POSITIONS):
        items, counts = drawn[position].unique(return_counts=True)
        assert items.tolist() == negatives(scored, position)
        assert counts.tolist() == pytest.approx([4000 / len(items)] * len(items), rel=0.2)


def test_draw_negatives_depends_on_seed_step_and_key_alone(scored: Scored) -> None:
    drawn = draw_negatives(scored, 50, seed=0).items_PK
    order = torch.randperm(POSITIONS, generator=torch.Generator().manual_seed(1))
    other_rank = replace(scored, own_PT=scored.own_PT[order], key_P=scored.key_P[order])
    assert torch.equal(draw_negatives(other_rank, 50, seed=0).items_PK, drawn[order])
    next_step = replace(scored, batch=replace(scored.batch, step=6))
    for changed in (draw_negatives(scored, 50, seed=1), draw_negatives(next_step, 50, seed=0)):
        assert (changed.items_PK != drawn).float().mean() > 0.3
    same_user = replace(scored, own_PT=scored.own_PT[:1].expand(POSITIONS, -1))
    drawn_of_same_user = draw_negatives(same_user, 50, seed=0).items_PK
    assert len(drawn_of_same_user.unique(dim=0)) == POSITIONS, "keys alone make them differ"


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_a_position_without_negatives_is_finite(name: str, scored: Scored) -> None:
    scores_PU = scored.scores(None).clone().requires_grad_()
    lonely = replace(
        scored,
        own_PT=torch.arange(ITEMS).expand(POSITIONS, -1),
        scores=lambda at: scores_PU if at is None else scores_PU.gather(1, at),
    )
    losses = LOSSES[name](LossConfig(name=name), 0)(lonely)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(scores_PU.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_two_ranks_add_up_to_that_of_one(
    name: str, tiny_config: Config, data: Data
) -> None:
    config = replace(tiny_config, loss=LossConfig(name=name, sampled=SAMPLED))
    model = build_model(config, data, 0)

    def batch(ranks: int, rank: int) -> Batch:
        plan = Plan(data.sequences, 0, 30, Owners((ranks,)))
        return StepDataset(data, plan, rank, model.tower.specs, False, model.whole_catalogue)[1]

    whole = batch(1, 0)
    # each half encodes all items, for the exchange would need a process group
    everything = {"media": whole.media, "valid_O": whole.valid_O, "owned_W": whole.owned_W}
    halves = [model(replace(batch(2, rank), **everything)).item() for rank in (0, 1)]
    assert sum(halves) == pytest.approx(model(whole).item(), abs=1e-5)


def test_full_softmax_step_has_the_items_of_the_whole_catalogue(
    tiny_config: Config, data: Data
) -> None:
    model = build_model(replace(tiny_config, loss=LossConfig(name="full_softmax")), data, 0)
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    batch = StepDataset(data, plan, 0, model.tower.specs, False, model.whole_catalogue)[0]
    small = StepDataset(data, plan, 0, model.tower.specs, False)[0]
    assert batch.items_U.tolist() == torch.from_numpy(data.catalogue.ok_N1).nonzero()[:, 0].tolist()
    for slots_BL, small_slots_BL in (
        (batch.inputs_BL, small.inputs_BL),
        (batch.targets_BL, small.targets_BL),
    ):
        real_BL = slots_BL >= 0
        assert torch.equal(real_BL, small_slots_BL >= 0)
        items = batch.items_U[slots_BL[real_BL]]
        assert torch.equal(items, small.items_U[small_slots_BL[real_BL]])


def test_full_softmax_with_a_trained_video_encoder_is_refused(
    video_config: Config, data: Data
) -> None:
    with pytest.raises(
        ValueError,
        match=r"full_softmax needs the vectors of the whole catalogue .* trains video/tiny",
    ):
        build_model(replace(video_config, loss=LossConfig(name="full_softmax")), data, 0)
    frozen = replace(
        video_config,
        loss=LossConfig(name="full_softmax"),
        item=replace(video_config.item, tuning="frozen"),
    )
    assert build_model(frozen, data, 0).whole_catalogue


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"in_batch_softmax"}))
def test_loss_other_than_in_batch_softmax_refuses_multiplicity(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"multiplicity=true belongs to .*in_batch_softmax, not to {name}"
    ):
        LOSSES[name](LossConfig(name=name, multiplicity=True), 0)
