"""item.tuning=side: a side network over the cached states of a frozen encoder's stages."""

import copy
import re
from typing import Any

import pytest
import torch
from small_encoders import DISTINCT, SMALL, TABLES, media_of
from small_towers import CPU, tower_of
from torch.nn.functional import normalize

from mlrec.models.encoders.side_network import InterModal, SidePooling
from mlrec.models.tower import ItemTower

MEDIA_ENCODERS = [name for name in DISTINCT if name not in TABLES]
SHUFFLES = {"image/vit_mae"}
"""ViT-MAE puts the patches into a random order; sums of other orders round differently."""
ONE_WIDTH = "video/videomae"
SEVERAL_WIDTHS = "video/tiny"


def side_tower(name: str, **options: Any) -> ItemTower:
    return tower_of(name, tuning="side", options={name: {**SMALL[name], **options}})


def trained_side_network(tower: ItemTower) -> ItemTower:
    """Replace the zeros that the side network ends in, which hide it."""
    for module in tower.modules():
        if isinstance(module, SidePooling):
            torch.nn.init.normal_(module.up.weight)
    return tower


@pytest.mark.parametrize("name", MEDIA_ENCODERS)
def test_side_tuning_of_any_encoder_equals_cached_and_trains_the_network_alone(name: str) -> None:
    tower = trained_side_network(tower_of(name, tuning="side")).train()
    (encoder,) = tower.encoders
    (spec,) = tower.specs
    media = media_of(spec, 5)
    vectors = tower(media)
    cache = tower.build_activation_cache(1 << 30, torch.float32, CPU)
    assert cache is not None
    (leaf,) = cache.prefixes[0].leaves
    assert leaf.shape == (len(encoder.stages()), encoder.width)
    items = torch.arange(1, 6)
    for _ in range(2):
        nothing_cached = torch.zeros(5, dtype=torch.bool)
        everything_valid = torch.ones(5, dtype=torch.bool)
        cached = tower.encode_cached(
            items, media, everything_valid, nothing_cached, add=True, device=CPU
        )
        tolerance = 1e-3 if name in SHUFFLES else 1e-5
        torch.testing.assert_close(cached, vectors, atol=tolerance, rtol=1e-4)
    assert cache.has(items).all()
    cached.square().sum().backward()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    for parameter in tower.heads.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["text/bert_tiny", "image/clip_vit_b32"])
def test_side_tuning_starts_as_the_frozen_encoder(name: str) -> None:
    tower = tower_of(name, tuning="side").eval()
    frozen = tower_of(name, tuning="frozen").eval()
    # only the order in which the initial weights are drawn differs
    frozen.heads[0].load_state_dict(tower.heads[0][1].state_dict())
    media = media_of(tower.specs[0], 3)
    vectors = normalize(frozen.encoders[0](media[tower.specs[0]]), dim=1)
    torch.testing.assert_close(tower(media), frozen.heads[0](vectors))


@pytest.mark.parametrize(
    ("every", "rows"),
    [(1, ("stage 0", "stage 1", "stage 2", "stage 3")), (2, ("stage 1", "stage 3"))],
)
def test_side_every_counts_stages_from_the_last(every: int, rows: tuple[str, ...]) -> None:
    tower = side_tower(ONE_WIDTH, side={"every": every, "width": 8})
    assert tower.encoders[0].rows == rows
    assert tower.heads[0][0].projections.weight.shape == (len(rows), 16, 8)


def test_side_states_narrower_than_the_widest_end_in_zeros() -> None:
    (encoder,) = side_tower(SEVERAL_WIDTHS).encoders
    rows = encoder(media_of(encoder.spec, 2)[encoder.spec])
    for stage, width in enumerate(encoder.widths):
        torch.testing.assert_close(rows[:, stage].norm(dim=1), torch.ones(2))
        assert not rows[:, stage, width:].any()


@pytest.mark.parametrize("pooling", ["mean", "mix"])
def test_side_states_may_be_pooled_without_a_side_network(pooling: str) -> None:
    tower = side_tower(ONE_WIDTH, pooling=pooling)
    assert tower(media_of(tower.specs[0], 2)).shape == (2, 16)
    with pytest.raises(ValueError, match=f"pooling={pooling} cannot combine states of the widths"):
        side_tower(SEVERAL_WIDTHS, pooling=pooling)


@pytest.mark.parametrize(
    ("tuning", "options", "message"),
    [
        ("side", {"side": {"every": 4}}, "side.every is 4, which leaves 1 of the 4 stages"),
        (
            "side",
            {"side": {"width": 8}, "pooling": "mix"},
            f"because item.options.{ONE_WIDTH}.pooling=mix replaces the side network. Remove one",
        ),
        ("side", {"side": {"width": 0}}, "side is {'width': 0}; it must be"),
        ("frozen", {"side": {"every": 2}}, f"or set item.options.{ONE_WIDTH}.tuning=side"),
        ("frozen", {"side": {"width": 8}}, f"or set item.options.{ONE_WIDTH}.tuning=side"),
        ("frozen", {"pooling": "side"}, "pooling has no effect"),
    ],
)
def test_side_options_without_effect_are_refused(
    tuning: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tower_of(ONE_WIDTH, tuning=tuning, options={ONE_WIDTH: {**SMALL[ONE_WIDTH], **options}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tuning": "side"}, r"id/embedding cannot be tuned by side, .* It has 1; set another"),
        ({"side": {"every": 2}}, "whose stages are not read. Remove it$"),
        ({"side": {"width": 8}}, "id/embedding has no side network. Remove it$"),
        ({"lora": {"rank": 4}}, "only Hugging Face encoders can be adapted, .* Remove it$"),
        ({"tuning": "lora"}, r"id/embedding\.tuning to frozen or full$"),
    ],
)
def test_side_and_lora_options_of_an_id_table_are_refused_with_a_remedy_that_fits(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tower_of("id/embedding", options={"id/embedding": options})


def test_side_width_of_frames_with_another_pooling_is_refused() -> None:
    frames = "video/image_frames"
    options = {**SMALL[frames], "pooling": "mix", "side": {"width": 8}}
    with pytest.raises(ValueError, match=f"Remove it or set item.options.{frames}.pooling=side"):
        tower_of(frames, options={frames: options})


def test_side_pooling_does_not_depend_on_other_items() -> None:
    torch.manual_seed(0)
    pooling = SidePooling(3, 16, 8)
    torch.nn.init.normal_(pooling.up.weight)
    states = torch.randn(4, 3, 16)
    torch.testing.assert_close(pooling(states)[1:2], pooling(states[1:2]))
    changed = copy.deepcopy(states)
    changed[:, 0] *= -1
    assert not torch.allclose(pooling(states), pooling(changed))


DEEP_AND_SHALLOW = ("video/mvit_b_16x4", "text/bert_tiny", "id/embedding")


def test_inter_modal_network_starts_at_zero_and_trains_all_its_parameters() -> None:
    torch.manual_seed(0)
    options = {name: SMALL[name] for name in DEEP_AND_SHALLOW[:2]}
    options["id/embedding"] = {"tuning": "full"}
    with_network = {"tuning": "side", "inter_modal": True, "options": options}
    tower = tower_of(*DEEP_AND_SHALLOW, **with_network).eval()
    media = {}
    for spec in tower.specs:
        media |= media_of(spec, 3)
    before = tower(media)
    network = tower.inter_modal
    assert isinstance(network, InterModal)
    tower.inter_modal = None
    torch.testing.assert_close(tower(media), before)
    tower.inter_modal = network
    torch.nn.init.normal_(network.up.weight)
    vectors = tower(media)
    assert not torch.allclose(vectors, before)
    vectors.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    # the deeper encoder's stages at equal distances, to the depth of the other
    assert network._stages_of == {0: [0, 5, 10, 16], 1: [0, 1, 2, 3]}


def test_inter_modal_network_of_fewer_than_two_side_networks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'id/embedding'\] only video/videomae has one. .*Set"):
        tower_of("video/videomae", "id/embedding", tuning="side", inter_modal=True)
    options = {ONE_WIDTH: {**SMALL[ONE_WIDTH], "pooling": "mix"}}
    with pytest.raises(ValueError, match=r"none has one\. .* with tuning=side and no pooling"):
        tower_of(ONE_WIDTH, tuning="side", options=options, inter_modal=True)
