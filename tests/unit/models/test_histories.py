"""Histories without padding: the positions that a sequence model computes, and their states."""

from functools import partial

import pytest
import torch

from mlrec.models.dropout import RowKind, drawing, dropouts_of, row_keys
from mlrec.models.recommenders import RECOMMENDERS, History, SequenceModel, Slots

ITEMS = torch.tensor([[-1, -1, -1, 5, 0, 7]])
"""A user's history, as rows of the items."""


@pytest.mark.parametrize(
    ("name", "more"),
    [("sasrec", {}), ("sasrec", {"pre_norm": True}), ("hstu", {}), ("gru4rec", {})],
)
@pytest.mark.parametrize("training", [True, False])
def test_states_without_computing_padding_equal_those_with_it(
    name: str, more: dict[str, bool], training: bool
) -> None:
    torch.manual_seed(0)
    model = RECOMMENDERS[name](8, 6, dropout=0.5, **more).train(training)
    vectors = model.prepare(torch.arange(1, 10), torch.randn(9, 8))
    # an unreadable item in the middle, and another at a position whose state is wanted
    items = torch.tensor([[-1, -1, -1, 5, 0, 7], [-1, 6, -1, 2, 2, -1]])
    wanted = torch.tensor([3, 4, 5, 7, 9, 11])

    def states(slots: Slots) -> torch.Tensor:
        keys = row_keys(RowKind.POSITIONS, slots.rows_R, 0, 1)
        with drawing(dropouts_of(model), lambda: keys):
            return model.states(vectors, torch.arange(2), slots)

    packed = model.slots(items, wanted)
    assert packed.rows_R.tolist() == [3, 4, 5, 7, 9, 10, 11]
    everything = model.slots(items, torch.arange(12))
    torch.testing.assert_close(states(packed), states(everything)[wanted])


@pytest.mark.parametrize("users", [0, 2])
@pytest.mark.parametrize("name", ["sasrec", "hstu", "gru4rec"])
def test_states_of_a_rank_without_any_position_are_empty(name: str, users: int) -> None:
    model = RECOMMENDERS[name](8, 6, dropout=0.0)
    vectors = model.prepare(torch.arange(1, 10), torch.randn(9, 8, requires_grad=True))
    slots = model.slots(torch.full((users, 6), -1), torch.arange(0))
    states = model.states(vectors, torch.arange(users), slots)
    assert states.shape == (0, 8)
    states.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_states_of_other_than_the_wanted_positions_are_refused() -> None:
    class AllComputed(SequenceModel):
        computes_histories = True

        def forward(self, history: History) -> torch.Tensor:
            return history.items_at_rows()

    model = AllComputed()
    vectors = model.prepare(torch.arange(1, 10), torch.randn(9, 8))
    message = (
        r"AllComputed.forward returned states of shape \[3, 8\] for 1 wanted positions. Return one "
        r"row for each of them: history.at_rows\(states_BLX\)\[history.wanted_P\]"
    )
    with pytest.raises(ValueError, match=message):
        model.last_states(vectors, torch.arange(1), ITEMS)


def test_attention_pads_histories_to_similar_lengths_only() -> None:
    model = RECOMMENDERS["sasrec"](8, 20, dropout=0.0)
    items = torch.full((4, 20), -1)
    for user, length in enumerate((20, 3, 7, 4)):
        items[user, -length:] = torch.arange(length)
    slots = model.slots(items, torch.tensor([19, 39, 59, 79]))
    assert [list(span.mask_bl.shape) for span in slots.spans] == [[2, 4], [1, 8], [1, 20]]
    assert [int(span.mask_bl.sum()) for span in slots.spans] == [7, 7, 20]
    assert slots.wanted_rows().tolist() == [19, 39, 59, 79]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["sasrec", "hstu"])
def test_slots_for_a_gpu_have_one_span_and_equal_states(name: str, training: bool) -> None:
    model = RECOMMENDERS[name](8, 20, dropout=0.3).train(training)
    items = torch.full((4, 20), -1)
    for user, length in enumerate((20, 3, 7, 4)):
        items[user, -length:] = torch.arange(length)
    vectors = model.prepare(torch.arange(20), torch.randn(20, 8))
    states = []
    for kind, num_spans in (("cpu", 3), ("cuda", 1)):
        slots = model.slots(items, torch.tensor([19, 39, 59, 79]), torch.device(kind))
        assert len(slots.spans) == num_spans
        with drawing(dropouts_of(model), partial(row_keys, RowKind.POSITIONS, slots.rows_R, 0, 1)):
            states.append(model.states(vectors, torch.arange(4), slots))
    torch.testing.assert_close(*states)


@pytest.mark.parametrize("name", ["sasrec", "hstu"])
def test_linear_layers_see_no_padding(name: str) -> None:
    model = RECOMMENDERS[name](8, 6, dropout=0.0)
    rows = []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    vectors = model.prepare(torch.arange(1, 10), torch.randn(9, 8))
    slots = model.slots(ITEMS, torch.tensor([3, 4, 5]))
    model.states(vectors, torch.arange(1), slots)
    assert set(rows) == {3}
    rows.clear()
    model.eval().last_states(vectors, torch.arange(1), ITEMS)
    assert set(rows) == {3, 1}, "the top layer computes the last position only"
