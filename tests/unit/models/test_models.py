"""Item towers, encoders' tuning, steps of a model, and messages about rows and options."""

import re
from dataclasses import replace

import pytest
import torch
from small_encoders import SMALL, media_of

from mlrec.config import Config, ItemConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import Data, StepDataset
from mlrec.models.building import build_model
from mlrec.models.encoders import ENCODERS, EncoderContext
from mlrec.models.recommenders import RECOMMENDERS
from mlrec.models.recommenders.options import check_options
from mlrec.models.tower import ItemTower
from mlrec.models.tunings import tune

NAMES = ("id/embedding", "video/tiny", "video/videomae")


def small_tower(name: str, **changes: object) -> ItemTower:
    item = ItemConfig(encoders=(name,), options={name: SMALL[name]}, **changes)
    return ItemTower(item, 16, catalogue_size=50)


@pytest.mark.parametrize("name", NAMES)
def test_encoder_trains_all_parameters_and_its_stages_hold_them(name: str) -> None:
    tower = small_tower(name)
    vectors = tower(media_of(tower.specs[0], 3))
    assert vectors.shape == (3, 16)
    vectors.square().sum().backward()
    stages = tower.encoders[0].stages()
    of_stages = set()
    for stage in stages:
        of_stages |= set(stage.parameters())
    assert of_stages == set(tower.encoders[0].parameters())
    assert all(parameter.grad is not None for parameter in tower.parameters())


@pytest.mark.parametrize(
    ("tuning", "trained"), [("frozen", 0), ("top", 1), ("half", 2), ("full", 4), ("scratch", 4)]
)
def test_tune_trains_stages_from_the_end(tuning: str, trained: int) -> None:
    row = ENCODERS["video/videomae"].changed("video/videomae", SMALL["video/videomae"])
    encoder = row.build(row, EncoderContext(16, 50, scratch=False))
    tune(encoder, tuning)
    stages = list(encoder.stages())
    num_frozen = len(stages) - trained
    for index, stage in enumerate(stages):
        expected = index >= num_frozen
        assert all(parameter.requires_grad == expected for parameter in stage.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_encode_in_chunks_changes_neither_vectors_nor_gradients(name: str) -> None:
    torch.manual_seed(0)
    whole = small_tower(name, chunk=100)
    media = media_of(whole.specs[0], 7)
    chunked = small_tower(name, chunk=3)
    chunked.load_state_dict(whole.state_dict())
    weights = torch.randn(7, 16)
    for tower in (whole, chunked):
        (tower.encode(media, most=7) * weights).sum().backward()
    torch.testing.assert_close(
        chunked.encode(media, most=7), whole.encode(media, most=7), atol=1e-5, rtol=1e-5
    )
    for one, other in zip(whole.parameters(), chunked.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_encode_with_fewer_items_than_other_ranks_runs_as_many_chunks() -> None:
    tower = small_tower("video/tiny", chunk=1)
    sizes: list[int] = []
    tower.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    assert len(tower.encode(media_of(tower.specs[0], 2), most=3)) == 2
    assert len(sizes) == 3


def test_step_encodes_each_distinct_item_once(video_config: Config, data: Data) -> None:
    model = build_model(video_config, data, rank=0)
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    batch = StepDataset(data, plan, 0, model.tower.specs, local_negatives=False)[0]
    encoded: list[int] = []
    model.tower.encoders[0].register_forward_hook(
        lambda module, inputs, output: encoded.append(len(output))
    )
    model(batch)
    assert sum(encoded) == len(batch.items_U) == len(set(batch.items_U.tolist()))
    slots = int(batch.count_U.sum())
    assert slots > 1.5 * sum(encoded), "many slots share an item, or the test shows nothing"


def test_local_negatives_are_the_items_of_the_ranks_users(data: Data) -> None:
    plan = Plan(data.sequences, 0, 30, Owners((2,)))
    ids = [InputSpec(Modality.ID)]
    first = StepDataset(data, plan, 0, ids, local_negatives=True)[0]
    second = StepDataset(data, plan, 1, ids, local_negatives=True)[0]
    whole = StepDataset(data, plan, 0, ids, local_negatives=False)[0]
    assert torch.equal(first.count_U + second.count_U, whole.count_U)
    assert (first.count_U == 0).any()


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("nobody/nothing", r"hf download .*videomae\.checkpoint=FOLDER.*item\.tuning=scratch"),
        (
            "/nowhere/nothing",
            r"there is no folder /nowhere/nothing.*videomae\.checkpoint to a folder.*"
            r"item\.tuning=scratch",
        ),
    ],
)
def test_tower_with_a_missing_checkpoint_names_the_remedy(
    checkpoint: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the environment variable would come too late: the library reads it when it is imported
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    item = ItemConfig(
        encoders=("video/videomae",), options={"video/videomae": {"checkpoint": checkpoint}}
    )
    with pytest.raises(ValueError, match=words):
        ItemTower(item, 16, 50)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (ItemConfig(encoders=("video/tinny",)), "did you mean 'video/tiny'"),
        (ItemConfig(fusion="summ"), "did you mean 'sum'"),
        (
            ItemConfig(encoders=("video/tiny",), options={"video/tiny": {"sizes": 3}}),
            "tiny.sizes: unknown option",
        ),
        (
            ItemConfig(encoders=("video/tiny",), options={"video/tiny": {"tuning": "topp"}}),
            "tiny.tuning is 'topp'; it must be one of frozen",
        ),
        (
            ItemConfig(encoders=("id/embedding", "id/embedding")),
            "item.encoders has id/embedding twice",
        ),
        (
            ItemConfig(
                encoders=("video/videomae",),
                options={"video/videomae": {"checkpoint": "", "frames": 5}},
            ),
            "multiple of 2",
        ),
    ],
)
def test_tower_with_an_unknown_row_or_option_names_it(item: ItemConfig, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ItemTower(item, 16, 50)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "sasrec",
            {"layer": 3},
            "options.layer: unknown option; sasrec takes layers=2, heads=2, dropout=0.1, "
            "pre_norm=False",
        ),
        ("popularity", {"layers": 3}, "options.layers: unknown option; popularity takes none"),
        (
            "sasrec",
            {"layers": "two"},
            "options.layers is 'two'; sasrec takes a value of type int, such as 2",
        ),
        ("sasrec", {"layers": True}, "options.layers is True; sasrec takes a value of type int"),
        ("sasrec", {"pre_norm": 1}, "options.pre_norm is 1; sasrec takes a value of type bool"),
        ("item_knn", {"k1": "high"}, "options.k1 is 'high'; item_knn takes a value of type float"),
        ("sasrec", {"heads": 0}, "options.heads is 0; it must be from 1 to 256"),
        ("sasrec", {"dropout": 2}, "options.dropout is 2; it must be from 0 to below 1"),
        (
            "nextitnet",
            {"dilations": [1, 0]},
            "options.dilations is [1, 0]; it must be from 1 to 256",
        ),
        (
            "nextitnet",
            {"dilations": [1, "four"]},
            "options.dilations is [1, 'four']; nextitnet takes a value of type list",
        ),
    ],
)
def test_recommender_with_a_bad_option_names_it(
    name: str, options: dict[str, object], words: str, tiny_config: Config, data: Data
) -> None:
    wrong = replace(
        tiny_config, recommender=replace(tiny_config.recommender, name=name, options=options)
    )
    with pytest.raises(ValueError, match=re.escape(f"recommender.{words}")):
        build_model(wrong, data, 0)


def test_check_options_accepts_an_int_for_a_float_and_a_list_for_a_tuple() -> None:
    check_options("item_knn", RECOMMENDERS["item_knn"], {"k1": 1})
    check_options("nextitnet", RECOMMENDERS["nextitnet"], {"dilations": [1, 2, 4]})


def test_rows_of_a_foreign_class_are_refused(
    tiny_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Foreign(torch.nn.Module):
        def __init__(self, *arguments: object) -> None:
            super().__init__()

    monkeypatch.setitem(RECOMMENDERS, "mine", Foreign)
    mine = replace(
        tiny_config, recommender=replace(tiny_config.recommender, name="mine", options={})
    )
    with pytest.raises(
        ValueError,
        match="recommender 'mine' is a Foreign, which is no UserModel; derive it from Sequence",
    ):
        build_model(mine, data, 0)
    monkeypatch.setitem(ENCODERS, "id/mine", replace(ENCODERS["id/embedding"], build=Foreign))
    with pytest.raises(
        ValueError,
        match=r"encoder 'id/mine' is a Foreign, not an Encoder\. Derive it from mlrec\.models\.",
    ):
        ItemTower(ItemConfig(encoders=("id/mine",)), 16, 50)
