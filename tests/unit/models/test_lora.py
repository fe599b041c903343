"""LoRA: what is trained, what an adapter computes, and that it merges into the weights."""

import pytest
import torch
from small_encoders import SMALL, media_of
from small_towers import tower_of

from mlrec.config import Config, ItemConfig
from mlrec.models.lora import (
    adapter_options,
    merge_adapters,
    names_with_adapters,
    without_adapters,
)
from mlrec.models.tower import ItemTower

FAMILIES = ["video/videomae", "image/huggingface", "image/swin", "text/bert_tiny", "audio/ast"]
DORA = {"rank": 4, "alpha": 2, "dora": True}


def item_config(name: str, lora: dict[str, object] | None = None, **changes: object) -> ItemConfig:
    options = dict(SMALL[name])
    if lora is not None:
        options["lora"] = lora
    return ItemConfig(encoders=(name,), options={name: options}, **{"tuning": "lora", **changes})


def tower_with(config: ItemConfig) -> ItemTower:
    torch.manual_seed(0)
    return ItemTower(config, 16, 50)


def train_adapters(tower: ItemTower) -> None:
    """Give all adapters random weights."""
    for name, parameter in tower.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)


@pytest.mark.parametrize("name", FAMILIES)
def test_add_adapters_trains_only_them_and_changes_nothing_at_first(name: str) -> None:
    tower = tower_with(item_config(name)).eval()
    frozen = tower_of(name, tuning="frozen").eval()
    # heads are drawn after the adapters
    frozen.heads.load_state_dict(tower.heads.state_dict())
    media = media_of(tower.specs[0], 2)
    torch.testing.assert_close(tower(media), frozen(media))
    train_adapters(tower)
    tower(media).square().sum().backward()
    for key, parameter in tower.encoders.named_parameters():
        assert parameter.requires_grad == (".lora_" in key), key
        assert (parameter.grad is not None) == parameter.requires_grad, key


@pytest.mark.parametrize("lora", [None, DORA])
@pytest.mark.parametrize("name", FAMILIES)
def test_merge_adapters_gives_the_vectors_with_adapters(
    name: str, lora: dict[str, object] | None
) -> None:
    config = Config(item=item_config(name, lora))
    tower = tower_with(config.item).eval()
    train_adapters(tower)
    plain_config = without_adapters(config)
    plain = tower_with(plain_config.item).eval()
    assert plain_config.item.options[name] == {**SMALL[name], "tuning": "frozen"}
    named = ((f"tower.{key}", value) for key, value in tower.state_dict().items())
    merged = dict(merge_adapters(named, adapter_options(config.item)))
    plain.load_state_dict({key.removeprefix("tower."): value for key, value in merged.items()})
    media = media_of(tower.specs[0], 3)
    before_training = tower_with(config.item).eval()(media)
    torch.testing.assert_close(plain(media), tower(media), atol=1e-5, rtol=1e-5)
    assert (tower(media) - before_training).abs().max() > 1e-3


@pytest.mark.parametrize("lora", [{}, DORA])
def test_names_with_adapters_gives_the_vectors_of_an_encoder_without_them(
    lora: dict[str, object],
) -> None:
    tower = tower_with(item_config("text/bert_tiny", lora)).eval()
    plain = tower_of("text/bert_tiny", tuning="full").eval()
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    renamed = dict(names_with_adapters(plain.state_dict().items(), tower.state_dict()))
    missing, unexpected = tower.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert all(".lora_" in key for key in missing)
    media = media_of(tower.specs[0], 3)
    torch.testing.assert_close(tower(media), plain(media))


def test_add_adapters_to_some_stages_leaves_the_others_alone() -> None:
    tower = tower_with(item_config("text/bert_tiny", {"stages": 1, "targets": ("query",)}))
    trained = [key for key, value in tower.encoders.named_parameters() if value.requires_grad]
    layer = "0.backbone.encoder.layer.2.attention.self.query"
    assert trained == [f"{layer}.lora_A.default.weight", f"{layer}.lora_B.default.weight"]


@pytest.mark.parametrize(
    ("name", "lora", "message"),
    [
        ("video/tiny", None, "adapts Hugging Face encoders only"),
        ("image/resnet50", None, "its stages call no linear layers"),
        ("text/bert_tiny", {"targets": ("q_proj",)}, "Their names end with dense, key, query"),
        ("text/bert_tiny", {"targets": ("query", "")}, "targets has '', which is no end of a name"),
        ("text/bert_tiny", {"stages": 9}, "lora.stages is 9, and text/bert_tiny has 4 stages"),
        ("text/bert_tiny", {"rank": 0}, "must be"),
        ("text/bert_tiny", {"ranks": 4}, "must be"),
    ],
)
def test_add_adapters_where_it_cannot_work_says_why(
    name: str, lora: dict[str, object] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tower_with(item_config(name, lora))


def test_lora_options_without_the_tuning_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"lora has no effect, because text/bert_tiny is tuned by"):
        tower_with(item_config("text/bert_tiny", {"rank": 4}, tuning="top"))


def test_tuning_lora_leaves_a_table_of_ids_to_its_own_tuning() -> None:
    tower = tower_of("text/bert_tiny", "id/embedding", tuning="lora")
    assert all(parameter.requires_grad for parameter in tower.encoders[1].parameters())
    with pytest.raises(ValueError, match="adapts Hugging Face encoders only"):
        tower_of("id/embedding", options={"id/embedding": {"tuning": "lora"}})
