"""The in-batch softmax over distinct items, compared with MicroLens' loss over padded slots."""

from typing import Any

import pytest
import torch
from histories import states_of

from mlrec.config import LossConfig
from mlrec.data.schema import Batch, Scored
from mlrec.models.losses import LOSSES, InBatchSoftmax
from mlrec.models.recommender import Recommender
from mlrec.models.recommenders import RECOMMENDERS, History, Slots, readable_slots
from mlrec.models.recommenders.sasrec import SASRec
from mlrec.runtime.flops import ELEMENTWISE_VALUES

WIDTH = 8
LENGTH = 6
CATALOGUE_SIZE = 40


def padded_loss(
    model: SASRec,
    table_ND: torch.Tensor,
    sequences_BT: torch.Tensor,
    log_p_N: torch.Tensor,
    rows: list[int],
) -> torch.Tensor:
    """Return the mean cross-entropy against every slot of the batch, as MicroLens' trainer does.

    Each of the B x T slots is a candidate with the score <state, item> - log p. Padding slots and
    the user's own items are left out, except the slot of the target itself.
    """
    slots = sequences_BT.flatten()
    vectors_BTD = table_ND[sequences_BT] * (sequences_BT > 0)[..., None]
    inputs = sequences_BT[:, :-1]
    states_BLD = states_of(model, vectors_BTD[:, :-1], inputs > 0)
    losses = []
    for user in rows:
        own = set(sequences_BT[user].tolist())
        for place in range(inputs.shape[1]):
            if inputs[user, place] == 0:
                continue
            target_slot = user * sequences_BT.shape[1] + place + 1
            scores = vectors_BTD.flatten(0, 1) @ states_BLD[user, place] - log_p_N[slots]
            left_out = torch.tensor([int(item) in own or int(item) == 0 for item in slots])
            left_out[target_slot] = False
            logits = scores.masked_fill(left_out, float("-inf"))
            losses.append(-torch.log_softmax(logits, dim=0)[target_slot])
    return torch.stack(losses).mean()


def random_sequences(generator: torch.Generator, users: int) -> torch.Tensor:
    """Return right-aligned sequences without repeats, in which users share items."""
    rows = []
    for _ in range(users):
        length = int(torch.randint(2, LENGTH + 2, (1,), generator=generator))
        items = torch.randperm(CATALOGUE_SIZE, generator=generator)[:length] + 1
        rows.append(torch.cat([torch.zeros(LENGTH + 1 - length, dtype=torch.int64), items]))
    return torch.stack(rows)


def distinct_batch(sequences_BT: torch.Tensor, log_p_N: torch.Tensor) -> Batch:
    items_U, positions = torch.unique(sequences_BT, return_inverse=True)
    slots = positions - 1 if items_U[0] == 0 else positions
    items_U = items_U[items_U > 0]
    inputs = slots[:, :-1].clone()
    targets = slots[:, 1:].clone()
    targets[inputs < 0] = -1
    return Batch(
        step=0,
        users_B=torch.arange(len(sequences_BT)),
        items_U=items_U,
        count_U=torch.bincount(slots[slots >= 0], minlength=len(items_U)),
        targets_U=torch.bincount(targets[targets >= 0], minlength=len(items_U)),
        log_p_U=log_p_N[items_U],
        owned_W=(len(items_U),),
        items_O=items_U,
        media={},
        valid_O=torch.ones(len(items_U), dtype=torch.bool),
        inputs_BL=inputs,
        targets_BL=targets,
    )


class _Table(torch.nn.Module):
    """An item tower that looks vectors up, so that both losses have gradients of one table."""

    def __init__(self, table_ND: torch.Tensor, items_U: torch.Tensor) -> None:
        super().__init__()
        self.table_ND = table_ND
        self.items_U = items_U

    def fetch_rows(self, items_U: torch.Tensor) -> None:
        """Fetch nothing: the table is whole."""

    def encode(
        self, media: object, most: int, device: object, keys_O: torch.Tensor
    ) -> torch.Tensor:
        return self.table_ND[self.items_U]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pre_norm", [False, True])
def test_in_batch_softmax_with_multiplicity_equals_the_padded_loss(
    seed: int, pre_norm: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    sequences_BT = random_sequences(generator, users=9)
    log_p_N = torch.rand(CATALOGUE_SIZE + 1, generator=generator).log()
    table = (0.5 * torch.randn(CATALOGUE_SIZE + 1, WIDTH, generator=generator)).requires_grad_()
    model = SASRec(WIDTH, LENGTH, dropout=0.0, pre_norm=pre_norm)

    expected = padded_loss(model, table, sequences_BT, log_p_N, rows=list(range(9)))
    expected_gradients = torch.autograd.grad(
        expected, [table, *model.parameters()], allow_unused=True
    )
    batch = distinct_batch(sequences_BT, log_p_N)
    loss = InBatchSoftmax(LossConfig(multiplicity=True), seed=0)
    recommender = Recommender(_Table(table, batch.items_U), model, loss, temperature=1.0, rank=0)
    loss_value = recommender(batch)
    gradients = torch.autograd.grad(loss_value, [table, *model.parameters()], allow_unused=True)

    assert loss_value.item() == pytest.approx(expected.item(), abs=1e-5)
    for expected_gradient, gradient in zip(expected_gradients, gradients, strict=True):
        assert (expected_gradient is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-4)


def test_in_batch_softmax_with_multiplicity_is_larger_where_users_share_items() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = distinct_batch(random_sequences(generator, 9), torch.zeros(CATALOGUE_SIZE + 1))
    assert batch.count_U.max() > 1
    users, places = torch.nonzero(batch.targets_BL >= 0, as_tuple=True)
    target_P = batch.targets_BL[users, places]
    scores_PU = torch.randn(len(users), len(batch.items_U), generator=generator)
    scored = Scored(
        scores=lambda at: scores_PU,
        target_P=target_P,
        own_PT=torch.full((len(users), 1), -1),
        key_P=torch.arange(len(users)),
        batch=batch,
        valid_U=torch.ones(len(batch.items_U), dtype=torch.bool),
    )
    with_counts = InBatchSoftmax(LossConfig(multiplicity=True), seed=0)(scored)
    without_counts = InBatchSoftmax(LossConfig(multiplicity=False), seed=0)(scored)
    assert (with_counts > without_counts + 1e-3).all(), "more negatives make a larger loss"


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("in_batch_softmax", {}),
        ("in_batch_softmax", {"multiplicity": True, "temperature": 0.3}),
        ("in_batch_softmax", {"logq": False}),
        ("full_softmax", {"temperature": 0.3}),
        ("sampled_softmax", {"temperature": 0.3, "sampled": 5}),
    ],
)
def test_loss_of_products_equals_that_of_scores(
    loss: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(4)
    torch.manual_seed(4)
    sequences = random_sequences(generator, 9)
    sequences[0] = torch.tensor([5, 6, 5, 6, 5, 6, 5])  # own items that repeat
    log_p = torch.rand(CATALOGUE_SIZE + 1, generator=generator).log()
    batch = distinct_batch(sequences, log_p)
    batch.valid_O[[2, 7]] = False
    batch.count_U[3] = 0
    table = torch.randn(CATALOGUE_SIZE + 1, WIDTH, generator=generator).requires_grad_()
    model = SASRec(WIDTH, LENGTH, dropout=0.0)
    config = LossConfig(loss, **settings)

    class OfScores(LOSSES[loss]):
        def __call__(self, scored: Scored) -> torch.Tensor:
            return super().__call__(scored)

    results = []
    monkeypatch.setitem(ELEMENTWISE_VALUES, "cpu", 300)
    for row in (LOSSES[loss], OfScores):
        recommender = Recommender(
            _Table(table, batch.items_U), model, row(config, 0), config.temperature, 0
        )
        value = recommender(batch)
        results.append([value, *torch.autograd.grad(3 * value, [table, *model.parameters()])])
    for of_products, of_scores in zip(*results, strict=True):
        torch.testing.assert_close(of_products, of_scores, atol=1e-5, rtol=1e-5)


def test_recommender_leaves_an_unreadable_item_out_of_the_loss() -> None:
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    batch = distinct_batch(random_sequences(generator, 9), torch.zeros(CATALOGUE_SIZE + 1))
    bad = int(batch.targets_U.argmax())
    batch.valid_O[bad] = False
    table = torch.randn(CATALOGUE_SIZE + 1, WIDTH, generator=generator).requires_grad_()

    class Counted(InBatchSoftmax):
        def __call__(self, scored: Scored) -> torch.Tensor:
            losses_P = super().__call__(scored)
            assert len(losses_P) == (batch.targets_U * batch.valid_O).sum()
            return losses_P

    counted = Counted(LossConfig(), seed=0)
    loss = Recommender(
        _Table(table, batch.items_U), SASRec(WIDTH, LENGTH, dropout=0.0), counted, 1.0, 0
    )(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert table.grad[batch.items_U[bad]].abs().sum() == 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("recommender", ["sasrec", "nfm", "deepfm"])
def test_recommender_without_a_readable_target_has_the_loss_zero(
    loss: str, recommender: str
) -> None:
    generator = torch.Generator().manual_seed(1)
    batch = distinct_batch(random_sequences(generator, 9), torch.zeros(CATALOGUE_SIZE + 1))
    batch.valid_O[:] = False
    table = torch.randn(CATALOGUE_SIZE + 1, WIDTH, generator=generator).requires_grad_()
    objective = LOSSES[loss](LossConfig(loss, sampled=1), seed=0)
    sequence_model = RECOMMENDERS[recommender](WIDTH, LENGTH)
    value = Recommender(_Table(table, batch.items_U), sequence_model, objective, 1.0, 0)(batch)
    value.backward()
    assert value == 0
    assert table.grad.abs().sum() == 0


def test_loss_of_other_than_one_value_per_position_is_refused() -> None:
    class MeanLoss(InBatchSoftmax):
        def __call__(self, scored: Scored) -> torch.Tensor:
            return super().__call__(scored).mean()

    generator = torch.Generator().manual_seed(1)
    batch = distinct_batch(random_sequences(generator, 9), torch.zeros(CATALOGUE_SIZE + 1))
    table = torch.randn(CATALOGUE_SIZE + 1, WIDTH, generator=generator)
    loss = MeanLoss(LossConfig(), seed=0)
    model = SASRec(WIDTH, LENGTH, dropout=0.0)
    message = rf"MeanLoss returned losses of shape \[\] for {int(batch.targets_U.sum())} positions"
    with pytest.raises(ValueError, match=message):
        Recommender(_Table(table, batch.items_U), model, loss, 1.0, 0)(batch)


def test_history_without_an_item_has_zeros() -> None:
    items_UD = torch.arange(1.0, 7.0).view(3, 2)
    slots = readable_slots(torch.tensor([[-1, 2, 0]]), torch.tensor([True, True, False]))
    history = History(items_UD, Slots(slots, torch.tensor([1, 2]), torch.tensor([1])))
    assert history.mask_BL.tolist() == [[False, False, True]]
    assert history.padded_items().tolist() == [[[0, 0], [0, 0], [1, 2]]]
    assert history.items_at_rows().tolist() == [[0, 0], [1, 2]]
    assert history.padded(torch.tensor([[7], [8]])).tolist() == [[[0], [7], [8]]]


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_computed_in_parts_equals_the_whole(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(2)
    batch = distinct_batch(
        random_sequences(generator, 9), torch.rand(CATALOGUE_SIZE + 1, generator=generator).log()
    )
    table = torch.randn(CATALOGUE_SIZE + 1, WIDTH, generator=generator).requires_grad_()
    objective = LOSSES[loss](LossConfig(name=loss, sampled=4), seed=3)
    model = Recommender(
        _Table(table, batch.items_U), SASRec(WIDTH, LENGTH, dropout=0.0), objective, 1.0, 0
    )

    def run() -> list[torch.Tensor]:
        value = model(batch)
        return [value, *torch.autograd.grad(value, [table, *model.sequence_model.parameters()])]

    whole = run()
    if hasattr(objective, "of_products"):
        monkeypatch.setitem(ELEMENTWISE_VALUES, "cpu", 100)
        torch.testing.assert_close(run(), whole)
        return
    calls = 0
    monkeypatch.setattr("mlrec.models.recommender.MAX_SCORES", 100)
    score = model.sequence_model.score

    def counted(*arguments: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return score(*arguments)

    monkeypatch.setattr(model.sequence_model, "score", counted)
    torch.testing.assert_close(run(), whole)
    assert calls > 10
