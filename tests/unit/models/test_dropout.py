"""Dropout as a function of (seed, step, layer, row, column): statistics and independence."""

import math

import pytest
import torch
from histories import states_of
from torch import nn

from mlrec.models.dropout import Dropout, RowDropout, RowKind, drawing, dropouts_of, row_keys
from mlrec.models.recommenders import RECOMMENDERS, SequenceModel
from mlrec.models.recommenders.factorization import PairNetwork

ROWS = 40_000
COLUMNS = 48
DROPPED_SHARES = [0.1, 0.4, 0.5]


def mask(
    p: float, *, layer: int = 0, seed: int = 0, step: int = 0, kind: RowKind = RowKind.POSITIONS
) -> torch.Tensor:
    """Return a standardised mask [ROWS, COLUMNS] of one layer, with mean 0 and variance 1."""
    layers = [Dropout(p) for _ in range(layer + 1)]
    with drawing(layers, lambda: row_keys(kind, torch.arange(ROWS), seed, step)):
        drawn = layers[layer].mask((COLUMNS,)).double()
    return (drawn - (1 - p)) / math.sqrt(p * (1 - p))


def largest_correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the largest correlation of two columns, in standard errors."""
    return float((first.T @ second).abs().max() / math.sqrt(len(first)))


@pytest.mark.parametrize("p", DROPPED_SHARES)
def test_dropout_mask_has_the_statistics_of_independent_draws(p: float) -> None:
    values = mask(p)
    assert abs(float(values.mean())) * math.sqrt(values.numel()) < 4
    assert float((values.mean(dim=0).abs() * math.sqrt(ROWS)).max()) < 4.5, "each column"
    # a row's sum is as variable as independent columns make it
    counts = values.sum(dim=1) / math.sqrt(COLUMNS)
    assert float(counts.square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / ROWS))
    columns = (values.T @ values) / math.sqrt(ROWS)
    assert float(columns.triu(1).abs().max()) < 5
    # pairs may be independent where triples are not
    for start in range(COLUMNS - 3):
        triple = float(values[:, start : start + 3].prod(dim=1).sum())
        assert abs(triple) / math.sqrt(ROWS) < 5
    assert largest_correlation(values[1:], values[:-1]) < 5.5, "neighbouring rows"


@pytest.mark.parametrize("other", [{"layer": 1}, {"seed": 1}, {"step": 1}, {"kind": RowKind.ITEMS}])
def test_dropout_masks_of_other_layers_seeds_steps_and_rows_are_independent(
    other: dict[str, int],
) -> None:
    for p in DROPPED_SHARES:
        assert largest_correlation(mask(p), mask(p, **other)) < 5.5


def test_dropout_scales_the_values_that_it_does_not_drop() -> None:
    layer = Dropout(0.4)
    values = torch.ones(500, 20)
    with drawing([layer], lambda: torch.arange(500)):
        dropped = layer(values)
        assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.6])
        assert torch.equal(layer(values.bfloat16()).unique(), torch.tensor([0, 1 / 0.6]).bfloat16())
        assert layer.eval()(values) is values
    assert Dropout(0.0)(values) is values


def test_row_dropout_leaves_out_whole_rows_without_scaling() -> None:
    layer = RowDropout(0.3)
    with drawing([layer], lambda: row_keys(RowKind.TOWER_ITEMS, torch.arange(10_000), 0, 0)):
        rows = layer(torch.ones(10_000, 4))
    assert set(rows.sum(dim=1).tolist()) == {0.0, 4.0}
    assert float(rows[:, 0].mean()) == pytest.approx(0.7, abs=0.02)


def test_dropout_draws_the_same_for_any_order_and_part_of_the_rows() -> None:
    layer = Dropout(0.5)
    ids = torch.arange(100)
    values = torch.randn(100, 7)

    def dropped(places: torch.Tensor) -> torch.Tensor:
        with drawing([layer], lambda: row_keys(RowKind.ITEMS, ids[places], 3, 5)):
            return layer(values[places])

    whole = dropped(ids)
    order = torch.randperm(100)
    assert torch.equal(dropped(order), whole[order])
    assert torch.equal(torch.cat([dropped(part) for part in ids.split(9)]), whole)


def test_dropout_without_keys_or_with_keys_of_other_rows_is_an_error() -> None:
    layer = Dropout(0.5)
    with pytest.raises(RuntimeError, match="without row keys"):
        layer(torch.ones(3, 2))
    with (
        drawing([layer], lambda: torch.arange(4)),
        pytest.raises(ValueError, match=r"\(3, 2\) for rows of shape \(4,\)"),
    ):
        layer(torch.ones(3, 2))


def test_drawing_within_drawing_restores_the_outer_keys() -> None:
    layer = Dropout(0.5)
    with drawing([layer], lambda: torch.arange(4)):
        with drawing([layer], lambda: torch.arange(2)):
            assert len(layer.keys) == 2
        assert len(layer.keys) == 4
    assert layer.rows is None


def test_recommenders_do_not_use_torchs_dropout() -> None:
    for name, row in RECOMMENDERS.items():
        for module in row(8, 6).modules():
            assert not isinstance(module, nn.Dropout), name


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "hstu", "dssm", "youtube_dnn"])
def test_states_in_training_do_not_depend_on_the_batchs_other_users(name: str) -> None:
    torch.manual_seed(0)
    model: SequenceModel = RECOMMENDERS[name](8, 6, dropout=0.5)
    layers = dropouts_of(model)
    history = torch.randn(5, 6, 8)
    readable = torch.tensor([[False, True, True, True, True, True]] * 5)
    ids = torch.arange(30).view(5, 6)

    def states(users: torch.Tensor, seed: int = 0) -> torch.Tensor:
        with drawing(layers, lambda: row_keys(RowKind.POSITIONS, ids[users].flatten(), seed, 1)):
            return states_of(model, history[users], readable[users])

    together = states(torch.arange(5))
    order = torch.tensor([3, 1])
    torch.testing.assert_close(states(order), together[order])
    assert not torch.allclose(states(torch.arange(5), seed=1), together, atol=1e-2), "dropout is on"


@pytest.mark.parametrize("per_state", [False, True])
def test_pair_network_drops_by_state_and_item(
    per_state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = PairNetwork(4, 1, 0.5)
    shift = torch.randn(6, 4)
    scale = torch.randn(6, 4)
    items = torch.randn(6, 3, 4) if per_state else torch.randn(3, 4)
    keys = row_keys(RowKind.ITEMS, torch.arange(18), 0, 0).view(6, 3)

    def numbers(places: torch.Tensor) -> torch.Tensor:
        with drawing(dropouts_of(network), lambda: keys[places]):
            return network(shift[places], scale[places], items[places] if per_state else items)

    whole = numbers(torch.arange(6))
    order = torch.tensor([4, 0, 5])
    torch.testing.assert_close(numbers(order), whole[order])
    monkeypatch.setattr("mlrec.models.recommenders.factorization.ELEMENTWISE_VALUES", {"cpu": 12})
    in_parts = numbers(torch.arange(6))
    torch.testing.assert_close(in_parts, whole)
    gradient_of_whole = torch.autograd.grad(whole.sum(), network.out)
    gradient_in_parts = torch.autograd.grad(in_parts.sum(), network.out)
    torch.testing.assert_close(gradient_in_parts, gradient_of_whole)
