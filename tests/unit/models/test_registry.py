"""Every system of the paper's table 2, small: its own configuration trained and ranked, on frozen features too."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from features import save_features
from small_encoders import SMALL
from test_recommenders import ALONE, batches, scores, with_other_items
from tiny import NUM_ITEMS, NUM_USERS, tiny_overrides

from mlrec.config import Config, load
from mlrec.data.stream import Data
from mlrec.evaluation.evaluate import evaluate
from mlrec.models.building import build_model
from mlrec.models.recommender import Recommender
from mlrec.models.recommenders import RECOMMENDERS, SequenceModel
from mlrec.report.published import BASELINES, Baseline

EXPERIMENTS = Path(__file__).parents[3] / "configs" / "experiment"
WITH_FEATURES = [row for row in BASELINES if "frozen" in row.inputs]
WITH_SEQUENCES = [
    row for row in BASELINES if issubclass(RECOMMENDERS[row.recommender], SequenceModel)
]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of all items, as mlrec extract writes them."""
    folder = tmp_path_factory.mktemp("features")
    save_features(folder, range(1, NUM_ITEMS + 1), width=12)
    return folder


def small(row: Baseline, dataset_dir: Path, folder: Path, features: Path) -> Config:
    """The row's own configuration at a small size, without dropout."""
    file = EXPERIMENTS / f"{row.config}.yaml"
    here = [
        key for key in tiny_overrides(dataset_dir, folder) if key.startswith(("data.", "run_dir"))
    ]
    config = load([file], [*here, "recommender.width=16", "train.precision=fp32"])
    options = {"features/vectors": {"checkpoint": str(features)}} if "frozen" in row.inputs else {}
    options |= {"video/videomae": SMALL["video/videomae"]} if "trained" in row.inputs else {}
    recommender = replace(
        config.recommender, options={**config.recommender.options, "dropout": 0.0}
    )
    if "dropout" not in config.recommender.options:
        recommender = config.recommender
    return replace(config, item=replace(config.item, options=options), recommender=recommender)


def losses(model: Recommender, data: Data, steps: int) -> list[float]:
    """Of some steps on the same batch; the last step's gradients stay."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    (batch,) = batches(model, data, 1)
    found = []
    for step in range(steps):
        optimizer.zero_grad()
        value = model(batch)
        value.backward()
        found.append(value.item())
        if step < steps - 1:
            optimizer.step()
    return found


@pytest.mark.parametrize("row", BASELINES, ids=lambda row: row.name)
def test_a_row_trains_and_ranks(
    row: Baseline, dataset_dir: Path, tmp_path: Path, features: Path, data: Data
) -> None:
    config = small(row, dataset_dir, tmp_path, features)
    model = build_model(config, data, 0).train()
    table = {name: value.clone() for name, value in model.tower.named_buffers()}
    first, *_, last = losses(model, data, 4)
    assert last < first
    for name, parameter in model.named_parameters():
        # what a score says of the user alone is the same for positive and negative: nothing of it is left in a comparison
        if parameter.requires_grad and not name.endswith("first_order.bias"):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    for name, value in model.tower.named_buffers():
        assert not value.requires_grad and torch.equal(value, table[name]), f"{name} is frozen"
    found = evaluate(model, data, config, ALONE, "test").metrics["all"]
    assert found["users"] == NUM_USERS
    assert 0 < found["hr@10"] <= 1


@pytest.mark.parametrize("row", WITH_FEATURES, ids=lambda row: row.name)
def test_frozen_features_and_ids_both_have_a_say(
    row: Baseline, dataset_dir: Path, tmp_path: Path, features: Path, data: Data
) -> None:
    config = small(row, dataset_dir, tmp_path, features)
    model = build_model(config, data, 0).eval()
    with torch.no_grad():
        before = scores(model, config, data, "test")
        ids, vectors = model.tower.encoders
        next(ids.parameters()).mul_(2.0)
        without_ids = scores(model, config, data, "test")
        vectors.table.mul_(2.0)
        without_features = scores(model, config, data, "test")
    assert not torch.allclose(before, without_ids)
    assert not torch.allclose(without_ids, without_features)


@pytest.mark.parametrize("row", WITH_FEATURES, ids=lambda row: row.name)
def test_a_frozen_video_encoder_has_no_gradient_beside_an_id(
    row: Baseline, data: Data, dataset_dir: Path, tmp_path: Path
) -> None:
    overrides = [
        key
        for key in tiny_overrides(dataset_dir, tmp_path)
        if not key.startswith("recommender.options")
    ]
    encoders = "item={encoders: [id/embedding, video/tiny], options: {video/tiny: {size: 32, width: 16, tuning: frozen}}}"
    config = load([], [*overrides, encoders, f"recommender.name={row.recommender}"])
    model = build_model(config, data, 0).train()
    losses(model, data, 1)
    ids, video = model.tower.encoders
    assert all(parameter.grad is None for parameter in video.parameters())
    assert all(
        parameter.grad.abs().sum() > 0
        for parameter in [*ids.parameters(), *model.tower.heads.parameters()]
    )


@pytest.mark.parametrize("row", WITH_SEQUENCES, ids=lambda row: row.name)
def test_no_state_depends_on_a_later_item(
    row: Baseline, dataset_dir: Path, tmp_path: Path, features: Path, data: Data
) -> None:
    model = build_model(small(row, dataset_dir, tmp_path, features), data, 0).eval()
    (batch,) = batches(model, data, 1)
    with torch.no_grad():
        items = model.tower.encode(batch.media, most=len(batch.items_U))
        vectors = model.prepare(batch.items_U, items, torch.ones(len(items), dtype=torch.bool))
        slots = batch.inputs_BL
        later = slots.clone()
        later[:, -1] = (slots[:, -1] + 1) % len(items)
        one, other = (
            model.sequence_model.states(vectors, batch.users_B, given) for given in (slots, later)
        )
    torch.testing.assert_close(one[:, :-1], other[:, :-1])
    assert not torch.allclose(one[:, -1], other[:, -1])


@pytest.mark.parametrize(("split", "from_end"), [("validation", 2), ("test", 1)])
@pytest.mark.parametrize("row", WITH_FEATURES, ids=lambda row: row.name)
def test_no_score_depends_on_what_is_held_out(
    row: Baseline,
    split: str,
    from_end: int,
    dataset_dir: Path,
    tmp_path: Path,
    features: Path,
    data: Data,
) -> None:
    config, found = small(row, dataset_dir, tmp_path, features), []
    for opened in (data, with_other_items(data, from_end)):
        model = build_model(config, opened, 0)
        losses(model, opened, 3)
        with torch.no_grad():
            found.append(scores(model.eval(), config, opened, split))
    assert torch.equal(*found)
    assert found[0].std() > 0
