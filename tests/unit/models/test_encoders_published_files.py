"""Checkpoints of published models, in their published file layouts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from small_encoders import SMALL, media_of

from mlrec.config import ItemConfig
from mlrec.models.encoders import ENCODERS, Encoder, EncoderContext
from mlrec.models.encoders.pytorchvideo import load_hub
from mlrec.models.tower import ItemTower

Tensors = dict[str, torch.Tensor]


def build(name: str, scratch: bool = False, **options: Any) -> Encoder:
    row = ENCODERS[name].changed(name, {"checkpoint": "", **options})
    return row.build(row, EncoderContext(16, 50, scratch, name))


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("video/slow_r50", "slow_r50"),
        ("video/slowfast_r50", "slowfast_r50"),
        ("video/x3d_xs", "x3d_xs"),
        ("video/mvit_b_16x4", "mvit_base_16x4"),
        ("video/efficient_x3d_xs", "efficient_x3d_xs"),
    ],
)
def test_zoo_file_is_loaded_by_its_own_names(name: str, architecture: str, tmp_path: Path) -> None:
    options = SMALL[name]
    config = dict(options.get("config", {}))
    if "mvit" in name:
        config |= {"temporal_size": options["frames"], "spatial_size": options["size"]}
    torch.manual_seed(3)
    published = getattr(load_hub(), architecture)(**config)
    wrapped = (
        published.state_dict()
        if "efficient" in name
        else {"model_state": published.state_dict(), "cfg": "..."}
    )
    torch.save(wrapped, tmp_path / "weights.pyth")
    safetensors.torch.save_file(published.state_dict(), tmp_path / "weights.safetensors")
    encoders = [
        build(name, **{**options, "checkpoint": str(tmp_path / f"weights.{end}")})
        for end in ("pyth", "safetensors")
    ]
    pooled, same = (encoder.eval() for encoder in encoders)
    media = media_of(pooled.spec, 2)[pooled.spec]
    assert torch.equal(pooled(media), same(media))
    names = set(published.state_dict())
    assert {key.removeprefix("backbone.") for key in pooled.state_dict()} == {
        key
        for key in names
        if not key.startswith(("blocks.5.proj.", "blocks.6.proj.", "head.proj.", "projection."))
    }
    with pytest.raises(
        ValueError, match=r"does not fit video/.*tensors are missing: .*checkpoint=FILE"
    ):
        torch.save({}, tmp_path / "empty.pyth")
        build(name, **{**options, "checkpoint": str(tmp_path / "empty.pyth")})


def test_zoo_encoder_scores_equal_the_published_models(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = load_hub().x3d_xs().eval()
    torch.save({"model_state": published.state_dict()}, tmp_path / "x3d_xs.pyth")
    encoder = build("video/x3d_xs", checkpoint=str(tmp_path), output="scores").eval()
    media = media_of(encoder.spec, 1)[encoder.spec]
    with torch.no_grad():
        scores = encoder(media)
        clip = ((media.float() / 255 - 0.45) / 0.225).permute(0, 4, 1, 2, 3)
        torch.testing.assert_close(scores.softmax(dim=1), published(clip), atol=1e-5, rtol=1e-4)


def zoo(folder: Path, change: Callable[[Tensors], Tensors], **options: Any) -> Encoder:
    """X3D-XS with the tensors of a published model after a change."""
    torch.manual_seed(0)
    torch.save(change(load_hub().x3d_xs().state_dict()), folder / "x3d_xs.pyth")
    return build("video/x3d_xs", checkpoint=str(folder / "x3d_xs.pyth"), **options)


STEM = "blocks.0.conv.conv_t.weight"
PROJECTION = "blocks.5.proj."


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {
            "state_dict": {f"net.backbone.{name}": tensor for name, tensor in tensors.items()}
        },
        lambda tensors: {
            name: tensor for name, tensor in tensors.items() if not name.startswith(PROJECTION)
        },
        lambda tensors: (
            tensors
            | {f"{PROJECTION}weight": torch.zeros(51, 2048), f"{PROJECTION}bias": torch.zeros(51)}
        ),
        lambda tensors: {
            name: tensor for name, tensor in tensors.items() if "num_batches_tracked" not in name
        },
    ],
    ids=["ddp", "lightning", "no_head", "other_classes", "no_counters"],
)
def test_zoo_weights_in_a_wrapper_or_with_another_head_are_loaded(
    change: Callable[[Tensors], Tensors], tmp_path: Path
) -> None:
    plain, changed = zoo(tmp_path, dict).state_dict(), zoo(tmp_path, change).state_dict()
    assert all(
        torch.equal(plain[name], changed[name])
        for name in plain
        if "num_batches_tracked" not in name
    )


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (
            lambda tensors: {name: tensors[name] for name in tensors if name != STEM},
            {},
            f"are missing: {STEM}",
        ),
        (
            lambda tensors: tensors | {"blocks.7.weight": torch.zeros(1)},
            {},
            "are not the model's: blocks.7.weight",
        ),
        (
            lambda tensors: tensors | {STEM: torch.full_like(tensors[STEM], torch.nan)},
            {},
            f"tensor {STEM} has .* NaN",
        ),
        (
            lambda tensors: tensors | {f"{PROJECTION}weight": torch.zeros(51, 2048)},
            {"output": "scores"},
            r"proj.weight is \[51, 2048\] instead of \[400, 2048\]",
        ),
    ],
)
def test_zoo_weights_that_do_not_fit_are_named(
    change: Callable[[Tensors], Tensors], options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        zoo(tmp_path, change, **options)


def test_checkpoint_with_pickled_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model_state": Path("x")}, tmp_path / "evil.pyth")
    with pytest.raises(ValueError, match="which mlrec does not execute"):
        build("video/x3d_xs", checkpoint=str(tmp_path / "evil.pyth"))


@pytest.mark.parametrize(
    "name", ["video/videomae", "image/clip_vit_b32", "image/vit_mae", "image/swin", "audio/ast"]
)
def test_transformers_folder_is_loaded(name: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel

    row = ENCODERS[name].changed(name, SMALL[name])
    small = build(name, **SMALL[name])
    config = AutoConfig.for_model(
        **{**small.backbone.config.to_dict(), "model_type": row.config["model_type"]}
    )
    AutoModel.from_config(config).to(torch.float16).save_pretrained(tmp_path)
    options = {**SMALL[name], "checkpoint": str(tmp_path)}
    options.pop("config")
    one, two = (build(name, **options).eval() for _ in range(2))
    media = media_of(one.spec, 2)[one.spec]
    torch.testing.assert_close(one(media), two(media))
    assert one.backbone.dtype is torch.float32, "whatever the file has"
    url = f"memory://{name}"
    from mlrec import storage

    for file in tmp_path.iterdir():
        storage.write_bytes(storage.join(url, file.name), file.read_bytes())
    remote = build(name, **{**options, "checkpoint": url}).eval()
    torch.testing.assert_close(remote(media), one(media))
    random = build(name, scratch=True, **options).eval()
    assert random.width == one.width, "random weights of the folder's architecture"
    assert not torch.allclose(random(media), one(media))


@pytest.mark.parametrize("file", ["preprocessor_config.json", "video_preprocessor_config.json"])
def test_image_encoder_of_a_checkpoint_normalizes_as_it_states(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}')
    small = build("image/clip_vit_b32", **SMALL["image/clip_vit_b32"])
    small.backbone.save_pretrained(tmp_path)
    encoder = build("image/huggingface", checkpoint=str(tmp_path), size=32)
    torch.testing.assert_close(encoder.normalize.mean, torch.tensor([0.5, 0.4, 0.3]) * 255)


def test_image_encoder_of_a_pair_takes_the_image_part(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    tiny = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    vision = {**tiny, "image_size": 32, "patch_size": 8}
    CLIPModel(
        CLIPConfig(text_config={**tiny, "vocab_size": 49410}, vision_config=vision)
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"set item\.options\.video/image_frames\.mean and \.std"):
        build("video/image_frames", checkpoint=str(tmp_path))
    encoder = build(
        "video/image_frames", checkpoint=str(tmp_path), frames=2, mean=[0.5] * 3, std=[0.5] * 3
    )
    assert encoder.spec.size == 32
    assert encoder(media_of(encoder.spec, 3)[encoder.spec]).shape == (3, 16)
    assert all("text" not in name for name, _ in encoder.named_parameters())


def test_v_jepa_2_runs_without_its_predictor() -> None:
    config = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2.0}
    predictor = {"pred_hidden_size": 24, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}
    options = {"frames": 4, "size": 32, "config": {"model_type": "vjepa2", **config, **predictor}}
    tower = ItemTower(
        ItemConfig(encoders=("video/huggingface",), options={"video/huggingface": options}), 16, 50
    )
    tower(media_of(tower.specs[0], 2)).square().sum().backward()
    assert [name for name, parameter in tower.named_parameters() if parameter.grad is None] == []


def test_row_config_with_options_is_extended() -> None:
    row = ENCODERS["video/videomae"].changed("video/videomae", {"config": {"num_hidden_layers": 2}})
    assert row.config == {"model_type": "videomae", "num_hidden_layers": 2}
    assert replace(row, config=ENCODERS["video/videomae"].config) == ENCODERS["video/videomae"]
