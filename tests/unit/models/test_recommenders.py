"""Every row of RECOMMENDERS: trained, ranked, causal, and blind to what is held out."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from histories import all_states, states_of
from tiny import tiny_overrides
from torch.nn.functional import cosine_similarity

from mlrec.config import Config, LossConfig, RecommenderConfig, load
from mlrec.data.catalogue_pass import ranked_items
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.sequences import SequenceTable
from mlrec.data.stream import Data, StepDataset
from mlrec.evaluation.evaluate import encode_catalogue, evaluate
from mlrec.models.building import build_model
from mlrec.models.recommender import Recommender
from mlrec.models.recommenders import (
    RECOMMENDERS,
    SequenceModel,
    build_user_model,
)
from mlrec.models.recommenders.base import unit
from mlrec.models.registry import check_rows
from mlrec.runtime.distributed import World
from mlrec.runtime.flops import ELEMENTWISE_VALUES
from mlrec.train.loop import train

ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))
WITH_DROPOUT = {"sasrec", "gru4rec", "hstu", "dssm", "youtube_dnn", "nfm", "deepfm"}
TRAINED = [name for name, row in RECOMMENDERS.items() if row.trained]
SEQUENCES = [name for name, row in RECOMMENDERS.items() if issubclass(row, SequenceModel)]
SLOTS = torch.tensor([[-1, -1, -1, 5, 0, 7]])
"""A user's history, as rows of the items."""
COUNTED = [name for name in RECOMMENDERS if name not in TRAINED]


def options(name: str) -> dict[str, float]:
    return {"dropout": 0.0} if name in WITH_DROPOUT else {}


def with_row(config: Config, name: str, loss: str = "in_batch_softmax") -> Config:
    return replace(
        config, recommender=RecommenderConfig(name, 16, options(name)), loss=LossConfig(loss)
    )


def batches(model: Recommender, data: Data, steps: int) -> list[Batch]:
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    dataset = StepDataset(data, plan, 0, model.tower.specs, False, model.whole_catalogue)
    return [dataset[step] for step in range(steps)]


@pytest.mark.parametrize("loss", ["in_batch_softmax", "bpr"])
@pytest.mark.parametrize("name", TRAINED)
def test_recommender_of_every_row_learns_and_ranks(
    name: str, loss: str, tiny_config: Config, data: Data
) -> None:
    config = with_row(tiny_config, name, loss)
    model = build_model(config, data, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    (first,) = batches(model, data, 1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        value = model(first)
        value.backward()
        losses.append(value.item())
        optimizer.step()
    assert losses[-1] < losses[0]
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        # negative and positive item share the user's term, so it cancels in a comparison of both
        if not parameter_name.endswith("first_order.bias"):
            assert parameter.grad.abs().sum() > 0, parameter_name
    metrics = evaluate(model, data, config, ALONE, "test").metrics["all"]
    assert metrics["users"] == data.sequences.num_users
    assert 0 < metrics["hr@10"] <= 1


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence_model_states_ignore_later_items_and_padding(name: str) -> None:
    torch.manual_seed(0)
    model = RECOMMENDERS[name](8, 6, **options(name)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    history, mask = torch.randn(1, 6, 8), torch.tensor([[False, False, True, True, True, True]])
    states = states_of(model, history, mask)
    later, padded = history.clone(), history.clone()
    later[0, 5] = torch.randn(8)
    padded[0, :2] = torch.randn(2, 8)
    torch.testing.assert_close(states_of(model, later, mask)[0, 2:5], states[0, 2:5])
    assert not torch.allclose(states_of(model, later, mask)[0, 5], states[0, 5])
    torch.testing.assert_close(states_of(model, padded, mask)[0, 2:], states[0, 2:])
    torch.testing.assert_close(states_of(model, history[:, 2:], mask[:, 2:])[0], states[0, 2:])


@pytest.mark.parametrize(
    ("name", "more"), [*((name, {}) for name in SEQUENCES), ("sasrec", {"pre_norm": True})]
)
def test_last_states_equal_the_last_of_all_states(name: str, more: dict[str, bool]) -> None:
    torch.manual_seed(0)
    model = RECOMMENDERS[name](8, 6, **options(name), **more).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    vectors = model.prepare(torch.arange(1, 10), torch.randn(9, 8))
    slots = torch.tensor(
        [[0, 4, 2, 8, 1, 3], [-1, -1, -1, 5, 0, 7], [-1, 6, -1, 2, 2, -1], [-1, -1, -1, -1, -1, -1]]
    )
    for columns in (slice(0, 6), slice(2, 6), slice(5, 6)):
        torch.testing.assert_close(
            model.last_states(vectors, torch.arange(4), slots[:, columns]),
            all_states(model, vectors, slots[:, columns])[:, -1],
            rtol=1e-5,
            atol=1e-5,
        )


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "nextitnet", "hstu", "youtube_dnn"])
def test_cosine_scores_ignore_the_length_of_vectors(name: str) -> None:
    """Items three times as long score the same, which they do not by a dot product."""
    for cosine in (False, True):
        torch.manual_seed(0)
        model = build_user_model(RecommenderConfig(name, 8, options(name), cosine), 6).eval()
        vectors = model.prepare(torch.arange(1, 10), torch.randn(9, 8))
        states = model.last_states(vectors, torch.arange(1), SLOTS)
        scores = model.score(states, vectors.items_UX)
        longer = model.score(states, model.prepare(vectors.ids_U, 3 * vectors.inputs_UD).items_UX)
        torch.testing.assert_close(longer, scores if cosine else 3 * scores)
        if cosine:
            model.cosine = False
            plain_state = model.last_states(vectors, torch.arange(1), SLOTS)
            torch.testing.assert_close(scores[0], cosine_similarity(plain_state, vectors.inputs_UD))


def test_unit_of_zeros_is_zeros_without_gradient() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-7, 0.0]], requires_grad=True)
    unit_vectors = unit(vectors)
    torch.testing.assert_close(unit_vectors, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]]))
    (unit_vectors * torch.arange(6.0).view(3, 2)).sum().backward()
    assert vectors.grad is not None
    assert vectors.grad[0].abs().sum() > 0 and vectors.grad[1:].abs().sum() == 0


@pytest.mark.parametrize("name", ["dssm", "decayed_mean", "grcn", "mmgcn"])
def test_gradient_with_an_item_without_content_stays_small(
    name: str, tiny_config: Config, data: Data
) -> None:
    config = with_row(tiny_config, name)
    norms = []
    for lost in (0, 5):
        torch.manual_seed(0)
        model = build_model(config, data, 0)
        with torch.no_grad():
            model.tower.encoders[0].embedding.weight[: lost + 1] = 0.0
        model(batches(model, data, 1)[0]).backward()
        norms.append(
            torch.nn.utils.get_total_norm(
                [p.grad for p in model.parameters() if p.grad is not None]
            ).item()
        )
    assert norms[1] < 3 * norms[0]


@pytest.mark.parametrize("name", ["nfm", "deepfm", "lightgcn", "popularity"])
def test_cosine_of_a_recommender_without_product_scores_is_refused(
    name: str, tiny_config: Config
) -> None:
    wrong = replace(tiny_config, recommender=RecommenderConfig(name, 8, cosine=True))
    with pytest.raises(
        ValueError, match=f"recommender.cosine is true, and {name} does not score by the product"
    ):
        check_rows(wrong)


def scores(model: Recommender, config: Config, data: Data, split: str) -> torch.Tensor:
    """Of the whole catalogue for every user, from the history before the held-out item."""
    catalogue = encode_catalogue(model, data, config, ALONE)
    ids = ranked_items(data)
    vectors = model.prepare(torch.from_numpy(ids), catalogue.items_ND, catalogue.readable_N)
    users = np.arange(data.sequences.num_users)
    history = data.sequences.history(users, split)
    slots = np.where(history > 0, np.searchsorted(ids, history), -1)
    states = model.sequence_model.last_states(
        vectors, torch.from_numpy(users), torch.from_numpy(slots)
    )
    return model.sequence_model.score(states, vectors.items_UX)


def with_other_items(data: Data, from_end: int) -> Data:
    """The data set with another item in each of the last `from_end` places of every user."""
    table = data.sequences
    items = np.array(table.items)
    for place in range(1, from_end + 1):
        ends = table.offsets[1:] - place
        items[ends] = items[ends] % data.catalogue.size + 1
    changed = copy.copy(data)
    changed.sequences = SequenceTable(items, table.offsets, table.users, table.split)
    return changed


@pytest.mark.parametrize(("split", "from_end"), [("validation", 2), ("test", 1)])
@pytest.mark.parametrize("name", RECOMMENDERS)
def test_scores_of_every_recommender_ignore_held_out_items(
    name: str, split: str, from_end: int, tiny_config: Config, data: Data
) -> None:
    config, all_scores = with_row(tiny_config, name), []
    for opened in (data, with_other_items(data, from_end)):
        model = build_model(config, opened, 0)
        if name in TRAINED:
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
            for batch in batches(model, opened, 2):
                model(batch).backward()
                optimizer.step()
        with torch.no_grad():
            all_scores.append(scores(model.eval(), config, opened, split))
    assert torch.equal(*all_scores)
    assert all_scores[0].std() > 0


@pytest.mark.parametrize("name", ["nfm", "deepfm"])
def test_pair_network_in_parts_gives_the_same_scores(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = RECOMMENDERS[name](8, 6, dropout=0.0)
    items = torch.randn(5, 8, requires_grad=True)
    slots = torch.randint(5, (4, 6))

    def run() -> list[torch.Tensor]:
        vectors = model.prepare(torch.arange(1, 6), items)
        pair_scores = model.score(all_states(model, vectors, slots).flatten(0, 1), vectors.items_UX)
        return [
            pair_scores,
            *torch.autograd.grad(pair_scores.square().sum(), [items, *model.parameters()]),
        ]

    whole = run()
    monkeypatch.setitem(ELEMENTWISE_VALUES, "cpu", 100)
    for one, other in zip(run(), whole, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", TRAINED)
def test_score_of_a_pair_equals_its_score_among_all(
    name: str, tiny_config: Config, data: Data
) -> None:
    config = with_row(tiny_config, name)
    model = build_model(config, data, 0).eval()
    ids = torch.from_numpy(ranked_items(data))
    model_of_users = model.sequence_model
    vectors = model.prepare(ids, torch.randn(len(ids), 16), torch.ones(len(ids), dtype=torch.bool))
    slots = torch.randint(len(ids), (5, 6))
    states = model_of_users.last_states(vectors, torch.arange(5), slots)
    at = torch.randint(len(ids), (5, 3))
    expected = model_of_users.score(states, vectors.items_UX).gather(1, at)
    torch.testing.assert_close(model_of_users.score(states, vectors.items_UX[at]), expected)


def test_popularity_recommender_equals_the_baseline(tiny_config: Config, data: Data) -> None:
    config = with_row(tiny_config, "popularity")
    evaluation = evaluate(build_model(config, data, 0), data, config, ALONE, "test")
    assert evaluation.metrics == evaluation.baselines["popularity"]


@pytest.mark.parametrize("name", COUNTED)
def test_counted_recommender_trains_without_steps(
    name: str, dataset_dir: Path, tmp_path: Path
) -> None:
    common = [
        key
        for key in tiny_overrides(dataset_dir, tmp_path)
        if not key.startswith("recommender.options")
    ]
    config = load([], [*common, f"recommender.name={name}", f"name={name}"])
    with pytest.raises(
        ValueError, match=r"counted from the training interactions.*train\.duration='0 steps'"
    ):
        train(config)
    train(replace(config, train=replace(config.train, duration="0 steps")))
    assert (tmp_path / name / "results.json").exists()
    assert (tmp_path / name / "checkpoints" / "step-000000" / "state.json").exists()
