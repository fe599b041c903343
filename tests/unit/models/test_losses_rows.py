"""Every row of LOSSES against a computation of its own, position by position."""

import math
from dataclasses import replace

import pytest
import torch

from mlrec.config import Config, LossConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch, Scored
from mlrec.data.stream import Data, StepDataset
from mlrec.models.building import build_model
from mlrec.models.losses import LOSSES, draw_negatives

ITEMS, POSITIONS, SAMPLED = 9, 7, 4


@pytest.fixture
def scored() -> Scored:
    """Random scores of 7 positions; item 7 is no candidate, item 8 cannot be read."""
    generator = torch.Generator().manual_seed(0)
    own = torch.rand(POSITIONS, ITEMS, generator=generator) < 0.3
    target_P = torch.randint(7, (POSITIONS,), generator=generator)
    own[torch.arange(POSITIONS), target_P] = True
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
        scores, target_P, own, torch.arange(100, 100 + POSITIONS), batch, torch.arange(ITEMS) < 8
    )


def negatives(scored: Scored, position: int) -> list[int]:
    own, count = scored.own_PU[position].tolist(), scored.batch.count_U.tolist()
    return [item for item in range(ITEMS) if not own[item] and count[item] and scored.valid_U[item]]


def expected(name: str, scored: Scored, position: int, logq: bool = True) -> float:
    target, scores = int(scored.target_P[position]), scored.scores(None)[position].tolist()
    corrected = [
        score - logq * log_p
        for score, log_p in zip(scores, scored.batch.log_p_U.tolist(), strict=True)
    ]

    def softmax(values: list[float], chosen: float) -> float:
        return math.log(sum(map(math.exp, values))) - chosen

    drawn, found = draw_negatives(scored, SAMPLED if name == "sampled_softmax" else 1, seed=3)
    assert found.all()
    one = scores[int(drawn[position, 0])]
    if name == "in_batch_softmax":
        return softmax(
            [corrected[item] for item in [target, *negatives(scored, position)]], corrected[target]
        )
    if name == "full_softmax":
        return softmax(scores[:8], scores[target])
    if name == "sampled_softmax":
        return softmax(
            [corrected[item] for item in [target, *drawn[position].tolist()]], corrected[target]
        )
    if name == "bpr":
        return -math.log(1 / (1 + math.exp(one - scores[target])))
    return -math.log(1 / (1 + math.exp(-scores[target]))) - math.log(1 - 1 / (1 + math.exp(-one)))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_equals_a_plain_computation(name: str, scored: Scored) -> None:
    found = LOSSES[name](LossConfig(name=name, sampled=SAMPLED), 3)(scored)
    assert found.tolist() == pytest.approx(
        [expected(name, scored, position) for position in range(POSITIONS)], abs=1e-5
    )


@pytest.mark.parametrize("name", ["in_batch_softmax", "sampled_softmax"])
def test_without_the_correction_the_scores_are_compared_as_they_are(
    name: str, scored: Scored
) -> None:
    found = LOSSES[name](LossConfig(name=name, sampled=SAMPLED, logq=False), 3)(scored)
    assert found.tolist() == pytest.approx(
        [expected(name, scored, at, logq=False) for at in range(POSITIONS)], abs=1e-5
    )


@pytest.mark.parametrize("name", ["full_softmax", "bpr", "bce"])
def test_the_other_losses_have_no_correction_to_leave_out(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"logq=false belongs to the in-batch and sampled softmax, not to {name}"
    ):
        LOSSES[name](LossConfig(name=name, logq=False), 0)


def test_drawn_items_are_negatives_of_the_position_each_as_likely(scored: Scored) -> None:
    drawn, _ = draw_negatives(scored, 4000, seed=0)
    for position in range(POSITIONS):
        items, counts = drawn[position].unique(return_counts=True)
        assert items.tolist() == negatives(scored, position)
        assert counts.tolist() == pytest.approx([4000 / len(items)] * len(items), rel=0.2)


def test_what_is_drawn_depends_on_seed_step_and_key_alone(scored: Scored) -> None:
    drawn, _ = draw_negatives(scored, 50, seed=0)
    order = torch.randperm(POSITIONS, generator=torch.Generator().manual_seed(1))
    other_rank = replace(scored, own_PU=scored.own_PU[order], key_P=scored.key_P[order])
    assert torch.equal(draw_negatives(other_rank, 50, seed=0)[0], drawn[order])
    next_step = replace(scored, batch=replace(scored.batch, step=6))
    for changed in (
        draw_negatives(scored, 50, seed=1)[0],
        draw_negatives(next_step, 50, seed=0)[0],
    ):
        assert (changed != drawn).float().mean() > 0.3
    same_user = replace(scored, own_PU=scored.own_PU[:1].expand(POSITIONS, -1))
    assert (
        len({tuple(row) for row in draw_negatives(same_user, 50, seed=0)[0].tolist()}) == POSITIONS
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_position_without_negatives_has_a_finite_loss(name: str, scored: Scored) -> None:
    scores_PU = scored.scores(None).clone().requires_grad_()
    lonely = replace(
        scored,
        own_PU=torch.ones_like(scored.own_PU),
        scores=lambda at: scores_PU if at is None else scores_PU.gather(1, at),
    )
    losses = LOSSES[name](LossConfig(name=name), 0)(lonely)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(scores_PU.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_have_the_loss_of_one(name: str, tiny_config: Config, data: Data) -> None:
    config = replace(tiny_config, loss=LossConfig(name=name, sampled=SAMPLED))
    model = build_model(config, data, 0)

    def batch(ranks: int, rank: int) -> Batch:
        plan = Plan(data.sequences, 0, 30, Owners((ranks,)))
        return StepDataset(data, plan, rank, model.tower.specs, False, model.whole_catalogue)[1]

    whole = batch(1, 0)
    # all items in the place of the exchange, which needs a process group
    everything = {"media": whole.media, "valid_O": whole.valid_O, "owned_W": whole.owned_W}
    halves = [model(replace(batch(2, rank), **everything)).item() for rank in (0, 1)]
    assert sum(halves) == pytest.approx(model(whole).item(), abs=1e-5)


def test_the_whole_catalogue_stands_in_a_step_of_full_softmax(
    tiny_config: Config, data: Data
) -> None:
    model = build_model(replace(tiny_config, loss=LossConfig(name="full_softmax")), data, 0)
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    batch = StepDataset(data, plan, 0, model.tower.specs, False, model.whole_catalogue)[0]
    small = StepDataset(data, plan, 0, model.tower.specs, False)[0]
    assert batch.items_U.tolist() == torch.from_numpy(data.catalogue.ok_N1).nonzero()[:, 0].tolist()
    for one, other in ((batch.inputs_BL, small.inputs_BL), (batch.targets_BL, small.targets_BL)):
        assert torch.equal((one >= 0), (other >= 0))
        assert torch.equal(batch.items_U[one[one >= 0]], small.items_U[other[other >= 0]])


def test_a_trained_video_tower_and_the_whole_catalogue_do_not_go_together(
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
def test_multiplicity_belongs_to_one_loss(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"multiplicity=true belongs to .*in_batch_softmax, not to {name}"
    ):
        LOSSES[name](LossConfig(name=name, multiplicity=True), 0)
