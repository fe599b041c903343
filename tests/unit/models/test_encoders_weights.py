"""Weights of checkpoints: names, wrappers, heads, shapes, dtypes and file layouts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published_checkpoints import (
    FIRST,
    IMAGE,
    Tensors,
    build,
    rewrite,
    same_weights,
    save_bert,
    save_model,
    to_shards,
    video,
)
from safetensors.torch import load_file
from small_encoders import TRANSFORMER, media_of

from mlrec.models.encoders.weight_names import backbone_of, find_prefix


@pytest.mark.parametrize(
    "wrapped",
    [
        "{}",
        "module.{}",
        "model.{}",
        "net.{}",
        "net.backbone.{}",
        "backbone.{}",
        "encoder_q.{}",
        "videomae.{}",
        "module.videomae.{}",
        "_orig_mod.{}",
        "module._orig_mod.videomae.{}",
        "_fsdp_wrapped_module.{}",
        "state.of.my.own.{}",
    ],
)
def test_a_checkpoint_in_a_wrapper_gives_the_published_weights(
    wrapped: str, published: Path, copy: Path
) -> None:
    rewrite(
        copy, lambda weights: {wrapped.format(name): tensor for name, tensor in weights.items()}
    )
    assert same_weights(video(copy), video(published))


def test_a_checkpoint_with_wrapped_layers_gives_the_published_weights(
    published: Path, copy: Path
) -> None:
    inner = "encoder._fsdp_wrapped_module.layer.{}._checkpoint_wrapped_module."
    names = {f"encoder.layer.{layer}.": inner.format(layer) for layer in range(3)}

    def wrap(weights: Tensors) -> Tensors:
        for before, after in names.items():
            weights = {name.replace(before, after): tensor for name, tensor in weights.items()}
        return weights

    rewrite(copy, wrap)
    assert same_weights(video(copy), video(published))


def test_a_checkpoint_of_moco_gives_the_trained_encoder(published: Path, copy: Path) -> None:
    def both(weights: Tensors) -> Tensors:
        queries = {f"encoder_q.{name}": tensor for name, tensor in weights.items()}
        keys = {f"encoder_k.{name}": tensor + 1 for name, tensor in weights.items()}
        return queries | keys | {"queue": torch.zeros(3)}

    rewrite(copy, both)
    assert same_weights(video(copy), video(published))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_checkpoint_of_another_dtype_is_read_in_fp32(dtype: torch.dtype, copy: Path) -> None:
    rewrite(copy, lambda weights: {name: tensor.to(dtype) for name, tensor in weights.items()})
    assert {parameter.dtype for parameter in video(copy).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("encoder", "kind", "model_class", "config"),
    [
        (
            "video/videomae",
            "VideoMAE",
            "VideoMAEForVideoClassification",
            {"num_frames": 4, **IMAGE},
        ),
        ("video/videomae", "VideoMAE", "VideoMAEForPreTraining", {"num_frames": 4, **IMAGE}),
        ("image/vit_mae", "ViTMAE", "ViTMAEForPreTraining", IMAGE),
        ("image/huggingface", "ViT", "ViTForImageClassification", IMAGE),
        ("image/huggingface", "ViT", "ViTForMaskedImageModeling", {**IMAGE, "encoder_stride": 8}),
        ("image/huggingface", "Dinov2", "Dinov2ForImageClassification", IMAGE),
        ("image/clip_vit_b32", "CLIPVision", "CLIPVisionModelWithProjection", IMAGE),
        ("image/huggingface", "SiglipVision", "SiglipVisionModel", IMAGE),
        (
            "image/swin",
            "Swin",
            "SwinForImageClassification",
            {
                "image_size": 32,
                "patch_size": 4,
                "embed_dim": 8,
                "depths": [1, 1],
                "num_heads": [1, 2],
                "window_size": 2,
            },
        ),
        (
            "image/resnet50",
            "ResNet",
            "ResNetForImageClassification",
            {"embedding_size": 8, "hidden_sizes": [8, 8, 16], "depths": [1, 1, 1]},
        ),
    ],
)
def test_a_checkpoint_with_a_head_gives_its_backbone(
    encoder: str, kind: str, model_class: str, config: dict[str, Any], tmp_path: Path
) -> None:
    published = save_model(tmp_path, kind, model_class, **config)
    frames = {"frames": 4} if encoder.startswith("video") else {}
    encoder_with_weights = build(encoder, checkpoint=str(tmp_path), size=32, **frames)
    for name, tensor in encoder_with_weights.backbone.state_dict().items():
        if tensor.numel() > 100 and "mask_token" not in name:
            values = [
                other for other in published.state_dict().values() if other.shape == tensor.shape
            ]
            assert any(torch.equal(tensor, other) for other in values), name


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda weights: {name: tensor for name, tensor in weights.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            without("layer.1."),
            r"15 of the model's 47 tensors are missing: encoder\.layer\.1\..*, \.\.\.\); set item",
        ),
        (
            without(FIRST),
            r"1 of the model's 47 tensors are missing: "
            r"embeddings\.patch_embeddings\.projection\.weight\);",
        ),
        (
            lambda weights: weights | {"encoder.layer.3.output.dense.bias": torch.zeros(16)},
            r"not the model.s: encoder\.layer\.3",
        ),
        (
            lambda weights: weights | {"adapter.down": torch.zeros(2)},
            r"1 are not the model's: adapter\.down",
        ),
        (
            lambda weights: weights | {FIRST: torch.zeros(16, 3, 2, 4, 4)},
            r"1 have another shape: embeddings.*is \[16, 3, 2, 4, 4\] "
            r"instead of \[16, 3, 2, 8, 8\]",
        ),
        (
            lambda weights: {
                f"other.{place}": tensor for place, tensor in enumerate(weights.values())
            },
            "47 of the model's 47",
        ),
        (
            lambda weights: weights | {FIRST: weights[FIRST].fill_(float("nan"))},
            r"tensor embeddings.*6,144 values that are NaN",
        ),
        (lambda weights: weights | {FIRST: weights[FIRST].double() * 1e300}, "NaN or infinite"),
        (
            lambda weights: weights | {FIRST: weights[FIRST].to(torch.int8)},
            "tensor embeddings.* is torch.int8",
        ),
        (
            lambda weights: weights | {FIRST: weights[FIRST].long()},
            "tensor embeddings.* is torch.int64",
        ),
        (
            lambda weights: {
                f"{who}.{name}": tensor.clone()
                for name, tensor in weights.items()
                for who in ("student", "teacher")
            },
            r"several sets of weights, under 'student\.' and 'teacher\.'; keep one",
        ),
        (
            lambda weights: weights | {f"_orig_mod.{FIRST}": weights[FIRST] + 1},
            "it holds embeddings.* twice",
        ),
        (lambda weights: {}, "47 of the model's 47 tensors are missing"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_an_error_that_names_its_tensors(
    change: Callable[[Tensors], Tensors], words: str, copy: Path
) -> None:
    rewrite(copy, change)
    with pytest.raises(ValueError, match=words) as raised:
        video(copy)
    assert len(str(raised.value)) < 1200


def to_bin(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("convert", [to_bin, to_shards])
def test_weights_in_other_files_are_read(
    convert: Callable[[Path], None], published: Path, copy: Path
) -> None:
    convert(copy)
    assert same_weights(video(copy), video(published))


def test_positions_that_the_model_interpolates_are_remarked(tmp_path: Path) -> None:
    save_model(tmp_path, "Dinov2", "Dinov2Model", **IMAGE)
    encoder = build("image/huggingface", checkpoint=str(tmp_path), size=48)
    assert encoder.remarks == (
        "image/huggingface: its positions are those of another size, which the model interpolates",
    )
    assert encoder(media_of(encoder.spec, 2)[encoder.spec]).shape == (2, 16)


@pytest.mark.parametrize(
    ("model_class", "tied"),
    [("BertForMaskedLM", True), ("BertForMaskedLM", False), ("BertForPreTraining", True)],
)
def test_a_language_models_head_and_tied_weights_are_left_out(
    model_class: str, tied: bool, tmp_path: Path
) -> None:
    save_bert(tmp_path)
    config = {"vocab_size": 7, "tie_word_embeddings": tied, **TRANSFORMER}
    published = save_model(tmp_path, "Bert", model_class, **config)
    loaded = build("text/huggingface", checkpoint=str(tmp_path), length=6)
    words = published.bert.embeddings.word_embeddings.weight
    assert torch.equal(loaded.backbone.embeddings.word_embeddings.weight, words)


def test_find_prefix_prefers_the_longest_set_of_names() -> None:
    expected = ["a.weight", "b.weight", "c.weight"]
    assert find_prefix([f"net.{name}" for name in expected] + ["a.weight"], expected) == "net."
    assert find_prefix(["x"], expected) == ""


def test_backbone_of_keeps_unknown_names_under_the_prefix() -> None:
    names = ["net.body.a", "net.body.extra", "net.body.classifier.weight", "net.head.weight"]
    assert set(backbone_of(dict.fromkeys(names, 0), ["a"])) == {"a", "extra"}
