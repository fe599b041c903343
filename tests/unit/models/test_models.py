import re
from dataclasses import replace

import pytest
import torch

from mlrec.config import Config, ItemConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch, InputSpec, Modality
from mlrec.data.stream import Data, StepDataset
from mlrec.models.building import build_model
from mlrec.models.encoders import ENCODERS, EncoderContext, tune
from mlrec.models.recommenders import RECOMMENDERS
from mlrec.models.recommenders.options import check_options
from mlrec.models.recommenders.sasrec import SASRec
from mlrec.models.tower import ItemTower

SMALL = {
    "id/embedding": {},
    "video/tiny": {"size": 32, "width": 16},
    "video/videomae": {
        "checkpoint": "",
        "frames": 4,
        "size": 32,
        "config": {
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
    },
}


def small_tower(name: str, **changes: object) -> ItemTower:
    return ItemTower(
        ItemConfig(encoders=(name,), options={name: SMALL[name]}, **changes), 16, catalogue_size=50
    )


def media_of(spec: InputSpec, count: int) -> dict[InputSpec, torch.Tensor]:
    if spec.modality is Modality.ID:
        return {spec: torch.arange(1, count + 1)}
    return {
        spec: torch.randint(256, (count, spec.frames, spec.size, spec.size, 3), dtype=torch.uint8)
    }


@pytest.mark.parametrize("name", SMALL)
def test_an_encoder_keeps_its_contract(name: str) -> None:
    tower = small_tower(name)
    vectors = tower(media_of(tower.specs[0], 3))
    assert vectors.shape == (3, 16)
    vectors.square().sum().backward()
    stages = tower.encoders[0].stages()
    of_stages = {id(parameter) for stage in stages for parameter in stage.parameters()}
    assert of_stages == {id(parameter) for parameter in tower.encoders[0].parameters()}, (
        "the stages hold every parameter"
    )
    assert all(parameter.grad is not None for parameter in tower.parameters())


@pytest.mark.parametrize(
    ("tuning", "trained"), [("frozen", 0), ("top", 1), ("half", 2), ("full", 4), ("scratch", 4)]
)
def test_tuning_counts_stages_from_the_end(tuning: str, trained: int) -> None:
    row = ENCODERS["video/videomae"].changed("video/videomae", SMALL["video/videomae"])
    encoder = row.build(row, EncoderContext(16, 50, scratch=False))
    tune(encoder, tuning)
    flags = [
        all(parameter.requires_grad for parameter in stage.parameters())
        for stage in encoder.stages()
    ]
    assert flags == [False] * (4 - trained) + [True] * trained
    assert sum(p.requires_grad for p in encoder.parameters()) == sum(
        1
        for stage, flag in zip(encoder.stages(), flags, strict=True)
        if flag
        for _ in stage.parameters()
    )


@pytest.mark.parametrize("name", SMALL)
def test_chunks_change_neither_vectors_nor_gradients(name: str) -> None:
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


def test_a_rank_with_fewer_items_runs_as_many_chunks() -> None:
    tower = small_tower("video/tiny", chunk=1)
    sizes: list[int] = []
    tower.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    assert len(tower.encode(media_of(tower.specs[0], 2), most=3)) == 2
    assert len(sizes) == 3


def test_sasrec_is_causal_and_blind_to_padding() -> None:
    torch.manual_seed(0)
    model = SASRec(8, 6, dropout=0.0).eval()
    history = torch.randn(1, 6, 8)
    mask = torch.tensor([[False, False, True, True, True, True]])
    states = model(history, mask)
    later, padded = history.clone(), history.clone()
    later[0, 5] = torch.randn(8)
    padded[0, :2] = torch.randn(2, 8)
    torch.testing.assert_close(model(later, mask)[0, 2:5], states[0, 2:5])
    assert not torch.allclose(model(later, mask)[0, 5], states[0, 5])
    torch.testing.assert_close(model(padded, mask)[0, 2:], states[0, 2:])


def test_a_history_counts_positions_from_the_newest_item() -> None:
    model = SASRec(8, 6, dropout=0.0).eval()
    history = torch.randn(1, 4, 8)
    padded = torch.cat([torch.zeros(1, 2, 8), history], dim=1)
    mask = torch.tensor([[False] * 2 + [True] * 4])
    torch.testing.assert_close(
        model(padded, mask)[:, 2:], model(history, torch.ones(1, 4, dtype=torch.bool))
    )


def test_a_step_encodes_each_distinct_item_once(video_config: Config, data: Data) -> None:
    model = build_model(video_config, data, rank=0)
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    batch = StepDataset(data, plan, 0, model.tower.specs, local_negatives=False)[0]
    seen: list[int] = []
    model.tower.encoders[0].register_forward_hook(
        lambda module, inputs, output: seen.append(len(output))
    )
    model(batch)
    assert sum(seen) == len(batch.items_U) == len(set(batch.items_U.tolist()))
    slots = int(batch.count_U.sum())
    assert slots > 1.5 * sum(seen), "many slots share an item, or the test shows nothing"


def test_local_negatives_are_the_items_of_the_own_users(data: Data) -> None:
    plan = Plan(data.sequences, 0, 30, Owners((2,)))
    batches = [
        StepDataset(data, plan, rank, [InputSpec(Modality.ID)], local_negatives=True)[0]
        for rank in (0, 1)
    ]
    whole: Batch = StepDataset(data, plan, 0, [InputSpec(Modality.ID)], local_negatives=False)[0]
    assert torch.equal(batches[0].count_U + batches[1].count_U, whole.count_U)
    assert (batches[0].count_U == 0).any()


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("nobody/nothing", r"hf download .*videomae\.checkpoint=FOLDER.*item\.tuning=scratch"),
        (
            "/nowhere/nothing",
            r"there is no folder /nowhere/nothing.*videomae\.checkpoint to a folder.*item\.tuning=scratch",
        ),
    ],
)
def test_a_checkpoint_that_is_not_at_hand_says_what_to_do(
    checkpoint: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
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
def test_bad_rows_and_options_are_named(item: ItemConfig, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ItemTower(item, 16, 50)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "sasrec",
            {"layer": 3},
            "options.layer: unknown option; sasrec takes layers=2, heads=2, dropout=0.1, pre_norm=False",
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
def test_options_that_a_recommender_does_not_take_are_named(
    name: str, options: dict[str, object], words: str, tiny_config: Config, data: Data
) -> None:
    wrong = replace(
        tiny_config, recommender=replace(tiny_config.recommender, name=name, options=options)
    )
    with pytest.raises(ValueError, match=re.escape(f"recommender.{words}")):
        build_model(wrong, data, 0)


def test_a_whole_number_is_a_float_and_a_list_a_tuple() -> None:
    check_options("item_knn", RECOMMENDERS["item_knn"], {"k1": 1})
    check_options("nextitnet", RECOMMENDERS["nextitnet"], {"dilations": [1, 2, 4]})


def test_rows_of_another_class_are_named(
    tiny_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Foreign(torch.nn.Module):
        def __init__(self, *given: object) -> None:
            super().__init__()

    monkeypatch.setitem(RECOMMENDERS, "mine", Foreign)
    mine = replace(
        tiny_config, recommender=replace(tiny_config.recommender, name="mine", options={})
    )
    with pytest.raises(
        ValueError,
        match="recommender 'mine' is a Foreign, which is no UserModel; derive it from SequenceModel",
    ):
        build_model(mine, data, 0)
    monkeypatch.setitem(ENCODERS, "id/mine", replace(ENCODERS["id/embedding"], build=Foreign))
    with pytest.raises(
        ValueError,
        match=r"encoder 'id/mine' is a Foreign, not an Encoder\. Derive it from mlrec\.models\.",
    ):
        ItemTower(ItemConfig(encoders=("id/mine",)), 16, 50)
