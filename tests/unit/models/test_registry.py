"""Every system of the paper's table 2 at a small size, trained and ranked."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from features import save_features
from histories import all_states
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
    """Write features of all items, as mlrec extract does."""
    folder = tmp_path_factory.mktemp("features")
    save_features(folder, range(1, NUM_ITEMS + 1), width=12)
    return folder


def small(row: Baseline, dataset_dir: Path, folder: Path, features: Path) -> Config:
    """Return the row's own configuration at a small size, without dropout."""
    file = EXPERIMENTS / f"{row.config}.yaml"
    overrides = tiny_overrides(dataset_dir, folder)
    places = [override for override in overrides if override.startswith(("data.", "run_dir"))]
    config = load([file], [*places, "recommender.width=16", "train.precision=fp32"])
    options = {"features/vectors": {"checkpoint": str(features)}} if "frozen" in row.inputs else {}
    options |= {"video/videomae": SMALL["video/videomae"]} if "trained" in row.inputs else {}
    recommender = replace(
        config.recommender, options={**config.recommender.options, "dropout": 0.0}
    )
    if "dropout" not in config.recommender.options:
        recommender = config.recommender
    return replace(config, item=replace(config.item, options=options), recommender=recommender)


def losses(model: Recommender, data: Data, steps: int) -> list[float]:
    """Train some steps on one batch and return the losses; the last step's gradients stay."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    (batch,) = batches(model, data, 1)
    values = []
    for step in range(steps):
        optimizer.zero_grad()
        value = model(batch)
        value.backward()
        values.append(value.item())
        if step < steps - 1:
            optimizer.step()
    return values


@pytest.mark.parametrize("row", BASELINES, ids=lambda row: row.name)
def test_system_of_the_paper_trains_and_ranks(
    row: Baseline, dataset_dir: Path, tmp_path: Path, features: Path, data: Data
) -> None:
    config = small(row, dataset_dir, tmp_path, features)
    model = build_model(config, data, 0).train()
    table = {name: value.clone() for name, value in model.tower.named_buffers()}
    first, *_, last = losses(model, data, 4)
    assert last < first
    for name, parameter in model.named_parameters():
        # a term of the user alone is the same for positive and negative, and cancels out
        if parameter.requires_grad and not name.endswith("first_order.bias"):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    for name, value in model.tower.named_buffers():
        assert not value.requires_grad and torch.equal(value, table[name]), f"{name} is frozen"
    metrics = evaluate(model, data, config, ALONE, "test").metrics["all"]
    assert metrics["users"] == NUM_USERS
    assert 0 < metrics["hr@10"] <= 1


@pytest.mark.parametrize("row", WITH_FEATURES, ids=lambda row: row.name)
def test_system_with_frozen_features_scores_by_ids_and_features(
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
def test_system_with_a_frozen_video_encoder_trains_ids_and_heads(
    row: Baseline, data: Data, dataset_dir: Path, tmp_path: Path
) -> None:
    overrides = []
    for override in tiny_overrides(dataset_dir, tmp_path):
        if not override.startswith("recommender.options"):
            overrides.append(override)
    encoders = (
        "item={encoders: [id/embedding, video/tiny], "
        "options: {video/tiny: {size: 32, width: 16, tuning: frozen}}}"
    )
    config = load([], [*overrides, encoders, f"recommender.name={row.recommender}"])
    model = build_model(config, data, 0).train()
    losses(model, data, 1)
    ids, video = model.tower.encoders
    assert all(parameter.grad is None for parameter in video.parameters())
    for parameter in [*ids.parameters(), *model.tower.heads.parameters()]:
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("row", WITH_SEQUENCES, ids=lambda row: row.name)
def test_states_of_sequence_models_do_not_depend_on_later_items(
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
        states = all_states(model.sequence_model, vectors, slots)
        other_states = all_states(model.sequence_model, vectors, later)
    torch.testing.assert_close(states[:, :-1], other_states[:, :-1])
    assert not torch.allclose(states[:, -1], other_states[:, -1])


@pytest.mark.parametrize(("split", "from_end"), [("validation", 2), ("test", 1)])
@pytest.mark.parametrize("row", WITH_FEATURES, ids=lambda row: row.name)
def test_scores_do_not_depend_on_held_out_items(
    row: Baseline,
    split: str,
    from_end: int,
    dataset_dir: Path,
    tmp_path: Path,
    features: Path,
    data: Data,
) -> None:
    config = small(row, dataset_dir, tmp_path, features)
    scores_of_data = []
    for opened in (data, with_other_items(data, from_end)):
        model = build_model(config, opened, 0)
        losses(model, opened, 3)
        with torch.no_grad():
            scores_of_data.append(scores(model.eval(), config, opened, split))
    assert torch.equal(*scores_of_data)
    assert scores_of_data[0].std() > 0
