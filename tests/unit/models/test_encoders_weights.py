"""Checkpoints of Hugging Face models: names, shapes, values, and files that do not fit."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_encoders import TRANSFORMER, media_of

from mlrec.config import ItemConfig
from mlrec.data.titles import tokenize
from mlrec.models.encoders import ENCODERS, Encoder, EncoderContext, architectures
from mlrec.models.encoders.weight_names import backbone_of, find_prefix
from mlrec.models.tower import ItemTower

Tensors = dict[str, torch.Tensor]
IMAGE = {"image_size": 32, "patch_size": 8, **TRANSFORMER}
NORMALIZE = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True}


def build(name: str, **options: Any) -> Any:
    row = ENCODERS[name].changed(name, options)
    return row.build(row, EncoderContext(16, 50, scratch=False, name=name)).eval()


def save_model(folder: Path, kind: str, model_class: str, **config: Any) -> Any:
    """A published model with random weights, and its preprocessor."""
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, f"{kind}Config")(**config))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(NORMALIZE))
    return model


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    save_model(folder, "VideoMAE", "VideoMAEModel", num_frames=4, **IMAGE)
    return folder


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor.contiguous() for name, tensor in change(dict(weights)).items()},
        folder / "model.safetensors",
    )


def video(folder: Path, **options: Any) -> Encoder:
    encoder: Encoder = build(
        "video/videomae", checkpoint=str(folder), **{"frames": 4, "size": 32, **options}
    )
    return encoder


def same_weights(one: Encoder, other: Encoder) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


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
        ("video/videomae", "VideoMAE", "VideoMAEForVideoClassification", {"num_frames": 4, **IMAGE}),
        ("video/videomae", "VideoMAE", "VideoMAEForPreTraining", {"num_frames": 4, **IMAGE}),
        ("image/vit_mae", "ViTMAE", "ViTMAEForPreTraining", IMAGE),
        ("image/huggingface", "ViT", "ViTForImageClassification", IMAGE),
        ("image/huggingface", "ViT", "ViTForMaskedImageModeling", {**IMAGE, "encoder_stride": 8}),
        ("image/huggingface", "Dinov2", "Dinov2ForImageClassification", IMAGE),
        ("image/clip_vit_b32", "CLIPVision", "CLIPVisionModelWithProjection", IMAGE),
        ("image/huggingface", "SiglipVision", "SiglipVisionModel", IMAGE),
        ("image/swin", "Swin", "SwinForImageClassification", {"image_size": 32, "patch_size": 4, "embed_dim": 8,
                                                            "depths": [1, 1], "num_heads": [1, 2], "window_size": 2}),
        ("image/resnet50", "ResNet", "ResNetForImageClassification", {"embedding_size": 8, "hidden_sizes": [8, 8, 16],
                                                                    "depths": [1, 1, 1]}),
    ],
)  # fmt: skip
def test_a_checkpoint_with_a_head_gives_its_backbone(
    encoder: str, kind: str, model_class: str, config: dict[str, Any], tmp_path: Path
) -> None:
    published = save_model(tmp_path, kind, model_class, **config)
    frames = {"frames": 4} if encoder.startswith("video") else {}
    found = build(encoder, checkpoint=str(tmp_path), size=32, **frames)
    for name, tensor in found.backbone.state_dict().items():
        if tensor.numel() > 100 and "mask_token" not in name:
            values = [
                other for other in published.state_dict().values() if other.shape == tensor.shape
            ]
            assert any(torch.equal(tensor, other) for other in values), name


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda weights: {name: tensor for name, tensor in weights.items() if part not in name}


FIRST = "embeddings.patch_embeddings.projection.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("layer.1."), r"15 of the model's 47 tensors are missing: encoder\.layer\.1\..*, \.\.\.\); set item"),
        (without(FIRST), r"1 of the model's 47 tensors are missing: embeddings\.patch_embeddings\.projection\.weight\);"),
        (lambda weights: weights | {"encoder.layer.3.output.dense.bias": torch.zeros(16)}, r"not the model.s: encoder\.layer\.3"),
        (lambda weights: weights | {"adapter.down": torch.zeros(2)}, r"1 are not the model's: adapter\.down"),
        (lambda weights: weights | {FIRST: torch.zeros(16, 3, 2, 4, 4)},
         r"1 have another shape: embeddings.*is \[16, 3, 2, 4, 4\] instead of \[16, 3, 2, 8, 8\]"),
        (lambda weights: {f"other.{place}": tensor for place, tensor in enumerate(weights.values())}, "47 of the model's 47"),
        (lambda weights: weights | {FIRST: weights[FIRST].fill_(float("nan"))}, r"tensor embeddings.*6,144 values that are NaN"),
        (lambda weights: weights | {FIRST: weights[FIRST].double() * 1e300}, "NaN or infinite"),
        (lambda weights: weights | {FIRST: weights[FIRST].to(torch.int8)}, "tensor embeddings.* is torch.int8"),
        (lambda weights: weights | {FIRST: weights[FIRST].long()}, "tensor embeddings.* is torch.int64"),
        (lambda weights: {f"{who}.{name}": tensor.clone() for name, tensor in weights.items() for who in ("student", "teacher")},
         r"several sets of weights, under 'student\.' and 'teacher\.'; keep one"),
        (lambda weights: weights | {f"_orig_mod.{FIRST}": weights[FIRST] + 1}, "it holds embeddings.* twice"),
        (lambda weights: {}, "47 of the model's 47 tensors are missing"),
    ],
)  # fmt: skip
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


def to_shards(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    shards = {
        name: f"model-0000{place % 2 + 1}-of-00002.safetensors"
        for place, name in enumerate(sorted(weights))
    }
    for shard in set(shards.values()):
        save_file(
            {name: weights[name] for name in weights if shards[name] == shard}, folder / shard
        )
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": shards})
    )
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("convert", [to_bin, to_shards])
def test_weights_in_other_files_are_read(
    convert: Callable[[Path], None], published: Path, copy: Path
) -> None:
    convert(copy)
    assert same_weights(video(copy), video(published))


def damage(name: str, content: bytes | None) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(content) if content is not None else (folder / name).unlink()

    return apply


def sharded(index: dict[str, str]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        to_shards(folder)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))

    return apply


def shard_missing(folder: Path) -> None:
    to_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"layer": Path("x")}, folder / "pytorch_model.bin")


def other_type(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


def quantised(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "fp8"}})
    )


def with_value(key: str, value: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, key: value}))

    return apply


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damage("config.json", b"null"), "cannot be loaded"),
        (with_value("dtype", "${x}"), "cannot be loaded"),
        (with_value("hidden_size", "16"), "cannot be loaded .*hidden_size"),
        (
            with_value("hidden_dropout_prob", float("inf")),
            r"config\.json of .* describes no model that video/videomae could build",
        ),
        (
            with_value("num_hidden_layers", 1 << 31),
            r"config\.json of .* has num_hidden_layers 2147483648; at most 1,000",
        ),
        (
            with_value("hidden_size", 1 << 40),
            r"config\.json of .* has hidden_size 1099511627776; at most",
        ),
        *[
            (
                with_value(key, value),
                rf"^config\.json of .* has {key} {re.escape(repr(value))}; it must be a whole number of 1 or more",
            )
            for key in (
                "tubelet_size",
                "patch_size",
                "hidden_size",
                "num_attention_heads",
                "image_size",
                "num_frames",
            )
            for value in (0, -2)
        ],
        (
            with_value("hidden_act", "gelo"),
            r"^config\.json of .* has hidden_act 'gelo', .*; did you mean .*'gelu'",
        ),
        (
            with_value("intermediate_size", 1 << 23),
            r"does not fit video/videomae .* instead of \[8388608",
        ),
        (
            with_value("num_attention_heads", 7),
            r"config\.json of .* describes no model that video/videomae could build",
        ),
        (damage("model.safetensors", b"no weights"), "cannot be loaded"),
        (damage("model.safetensors", None), "it has none of model.safetensors"),
        (damage("config.json", None), "cannot be loaded"),
        (damage("config.json", b"{"), "cannot be loaded"),
        (shard_missing, r"1 of its 2 shards are missing: model-00002"),
        (sharded({"x": "../model-00001-of-00002.safetensors"}), "is not the name of a file"),
        (
            sharded({"x": "model-00001-of-00002.safetensors"}),
            r"its shards lack 1 tensors of .*index\.json: x",
        ),
        (pickled, "pickled objects, which mlrec does not execute"),
        (
            other_type,
            r"is of the type 'bert' by its config\.json, and video/videomae is 'videomae'",
        ),
        (quantised, "is quantised; use one in float32"),
    ],
)
def test_a_damaged_folder_is_an_error_with_a_remedy(
    change: Callable[[Path], None], words: str, copy: Path
) -> None:
    change(copy)
    with pytest.raises(ValueError, match=words):
        video(copy)


def test_an_encoder_for_titles_does_not_take_a_model_of_images(published: Path) -> None:
    with pytest.raises(ValueError, match="reads pixel_values, not input_ids"):
        build("text/huggingface", checkpoint=str(published), length=8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": 3}, r"frames is 3; the model joins 2 frames"),
        ({"size": 30}, "size is 30; the model cuts images into patches of 8 pixels"),
        (
            {"config": {"num_hiden_layers": 2}},
            r"config\.num_hiden_layers: a videomae has no such key",
        ),
        ({"config": {"hidden_size": 32}}, "have another shape"),
        (
            {"config": {"tubelet_size": 0}},
            r"^item\.options\.video/videomae\.config has tubelet_size 0; it must be",
        ),
        (
            {"config": {"patch_size": []}},
            r"^item\.options\.video/videomae\.config has patch_size \[\]; it must be",
        ),
        (
            {"config": {"hidden_act": "zzz"}},
            r"^item\.options\.video/videomae\.config has hidden_act 'zzz'",
        ),
    ],
)
def test_options_that_do_not_fit_a_checkpoint_are_named(
    options: dict[str, Any], words: str, published: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        video(published, **options)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model_type": "videomea"},
            r"\.config has model_type 'videomea', .*; did you mean 'videomae'",
        ),
        ({"model_type": 3}, r"\.config has model_type 3, .*; name one"),
        (
            {"model_type": "videomae", "num_attention_heads": 0},
            r"\.config has num_attention_heads 0; it must be",
        ),
        (
            {"model_type": "videomae", "hidden_dropout_prob": "x"},
            r"\.config describes no model .*hidden_dropout_prob",
        ),
    ],
)
def test_architecture_without_a_checkpoint_names_a_bad_value(
    config: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        build("video/huggingface", frames=4, size=32, config=config)


def test_a_row_that_reads_other_sizes_than_its_checkpoint_asks_for_them(published: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"reads frames=16, .* states 4 in its config\.json; set item\.options.*frames=4",
    ):
        build("video/videomae", checkpoint=str(published), size=32)
    with pytest.raises(
        ValueError,
        match=r"reads size=224, .* states 32 in its config\.json; set item\.options.*size=32",
    ):
        build("video/videomae", checkpoint=str(published), frames=4)


def test_positions_that_the_model_interpolates_are_remarked(tmp_path: Path) -> None:
    save_model(tmp_path, "Dinov2", "Dinov2Model", **IMAGE)
    encoder = build("image/huggingface", checkpoint=str(tmp_path), size=48)
    assert encoder.remarks == (
        "image/huggingface: its positions are those of another size, which the model interpolates",
    )
    assert encoder(media_of(encoder.spec, 2)[encoder.spec]).shape == (2, 16)


@pytest.mark.parametrize(
    ("encoder", "kind", "config", "options", "words"),
    [
        ("image/huggingface", "ViT", IMAGE, {"size": 48}, r"cannot encode images of 48 x 48 \(Input image size"),
        ("video/huggingface", "Vivit", {**IMAGE, "num_frames": 4, "tubelet_size": [2, 8, 8]}, {"frames": 8},
         "cannot encode 8 frames of 32 x 32"),
        ("video/huggingface", "Vivit", {**IMAGE, "num_frames": 4, "tubelet_size": [2, 8, 8]}, {"size": 36},
         "patches of 8 pixels"),
        ("video/huggingface", "ViT", IMAGE, {"frames": 4}, "cannot encode 4 frames of 32 x 32"),
        ("image/huggingface", "VideoMAE", {**IMAGE, "num_frames": 4}, {}, "cannot encode images of 32 x 32"),
        ("image/huggingface", "MobileViT", {"image_size": 64}, {}, r"vectors have the shape \[640\], not its width, 240"),
    ],
)  # fmt: skip
def test_tower_refuses_an_encoder_that_cannot_encode_its_inputs(
    encoder: str,
    kind: str,
    config: dict[str, Any],
    options: dict[str, Any],
    words: str,
    tmp_path: Path,
) -> None:
    save_model(tmp_path, kind, f"{kind}Model", **config)
    item = ItemConfig((encoder,), {encoder: {"checkpoint": str(tmp_path), **options}})
    with pytest.raises(ValueError, match=words):
        ItemTower(item, 16, catalogue_size=50)


def test_a_checkpoint_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"there is no folder .*/nothing\); set item\.options"
    ) as raised:
        video(tmp_path / "nothing")
    assert "hf download" not in str(raised.value)


@pytest.mark.parametrize(
    ("model_class", "tied"),
    [("BertForMaskedLM", True), ("BertForMaskedLM", False), ("BertForPreTraining", True)],
)
def test_a_language_models_head_and_tied_weights_are_left_out(
    model_class: str, tied: bool, tmp_path: Path
) -> None:
    from test_encoders_other import save_bert

    save_bert(tmp_path)
    config = {"vocab_size": 7, "tie_word_embeddings": tied, **TRANSFORMER}
    published = save_model(tmp_path, "Bert", model_class, **config)
    found = build("text/huggingface", checkpoint=str(tmp_path), length=6)
    words = published.bert.embeddings.word_embeddings.weight
    assert torch.equal(found.backbone.embeddings.word_embeddings.weight, words)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (513, r"length is 513; the model reads titles of 3 to 512 tokens"),
        (2, "titles of 3 to 512 tokens"),
    ],
)
def test_titles_longer_than_the_positions_are_named(length: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build("text/bert_tiny", checkpoint="", length=length, config=TRANSFORMER)


def test_titles_of_roberta_leave_room_for_its_padding() -> None:
    with pytest.raises(ValueError, match="titles of 3 to 38 tokens"):
        build(
            "text/roberta",
            checkpoint="",
            length=39,
            config={**TRANSFORMER, "max_position_embeddings": 40, "pad_token_id": 1},
        )


def test_tokenize_a_word_that_the_tokenizer_cannot_read_is_an_error_that_names_it(
    tmp_path: Path,
) -> None:
    from test_encoders_other import save_bert

    save_bert(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["unk_token"] = "[GONE]"
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(RuntimeError, match=f"the tokenizer '{tmp_path}' cannot read a title"):
        tokenize("snowflakes \u2603", 6, str(tmp_path))


def test_a_tokenizer_of_another_checkpoint_is_named(tmp_path: Path) -> None:
    from test_encoders_other import save_bert
    from transformers import BertConfig, BertModel

    save_bert(tmp_path)
    BertModel(BertConfig(vocab_size=5, **TRANSFORMER)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has 7 tokens, and the model's embedding 5"):
        build("text/huggingface", checkpoint=str(tmp_path), length=6)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).unlink()
    with pytest.raises(ValueError, match="tokenizer"):
        build("text/huggingface", checkpoint=str(tmp_path), length=6)


def test_find_prefix_prefers_the_longest_set_of_names() -> None:
    expected = ["a.weight", "b.weight", "c.weight"]
    assert find_prefix([f"net.{name}" for name in expected] + ["a.weight"], expected) == "net."
    assert find_prefix(["x"], expected) == ""


def test_backbone_of_keeps_unknown_names_under_the_prefix() -> None:
    names = ["net.body.a", "net.body.extra", "net.body.classifier.weight", "net.head.weight"]
    assert set(backbone_of(dict.fromkeys(names, 0), ["a"])) == {"a", "extra"}


def test_a_key_of_a_configuration_that_is_quoted_is_cut_short() -> None:
    with pytest.raises(
        ValueError, match=r"^config\.json has x{59}… 99999999999; at most"
    ) as caught:
        architectures._check_values({"x" * 5000: 99_999_999_999}, "config.json")
    assert len(str(caught.value)) < 200
