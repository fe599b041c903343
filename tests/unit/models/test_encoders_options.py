"""Options and inputs that do not fit a model."""

import json
from pathlib import Path
from typing import Any

import pytest
from published_checkpoints import (
    IMAGE,
    build,
    save_bert,
    save_model,
    video,
)
from small_encoders import TRANSFORMER

from mlrec.config import ItemConfig
from mlrec.data.titles import tokenize
from mlrec.models.encoders import architectures
from mlrec.models.tower import ItemTower


def test_text_encoder_with_an_image_model_is_refused(published: Path) -> None:
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
def test_encoder_options_that_do_not_fit_a_checkpoint_are_named(
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


def test_row_with_other_sizes_than_its_checkpoint_asks_for_the_option(published: Path) -> None:
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


@pytest.mark.parametrize(
    ("encoder", "kind", "config", "options", "words"),
    [
        (
            "image/huggingface",
            "ViT",
            IMAGE,
            {"size": 48},
            r"cannot encode images of 48 x 48 \(Input image size",
        ),
        (
            "video/huggingface",
            "Vivit",
            {**IMAGE, "num_frames": 4, "tubelet_size": [2, 8, 8]},
            {"frames": 8},
            "cannot encode 8 frames of 32 x 32",
        ),
        (
            "video/huggingface",
            "Vivit",
            {**IMAGE, "num_frames": 4, "tubelet_size": [2, 8, 8]},
            {"size": 36},
            "patches of 8 pixels",
        ),
        ("video/huggingface", "ViT", IMAGE, {"frames": 4}, "cannot encode 4 frames of 32 x 32"),
        (
            "image/huggingface",
            "VideoMAE",
            {**IMAGE, "num_frames": 4},
            {},
            "cannot encode images of 32 x 32",
        ),
        (
            "image/huggingface",
            "MobileViT",
            {"image_size": 64},
            {},
            r"returns \[1, 640\] for one item, expected vectors of \[1, 240\]",
        ),
    ],
)
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


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (513, r"length is 513; the model reads titles of 3 to 512 tokens"),
        (2, "titles of 3 to 512 tokens"),
    ],
)
def test_check_titles_beyond_the_positions_names_the_length(length: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build("text/bert_tiny", checkpoint="", length=length, config=TRANSFORMER)


def test_check_titles_of_roberta_leaves_room_for_padding() -> None:
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
    save_bert(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["unk_token"] = "[GONE]"
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(RuntimeError, match=f"the tokenizer '{tmp_path}' cannot read a title"):
        tokenize("snowflakes \u2603", 6, str(tmp_path))


def test_check_titles_with_another_checkpoints_tokenizer_names_it(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    save_bert(tmp_path)
    BertModel(BertConfig(vocab_size=5, **TRANSFORMER)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has 7 tokens, and the model's embedding 5"):
        build("text/huggingface", checkpoint=str(tmp_path), length=6)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).unlink()
    with pytest.raises(ValueError, match="tokenizer"):
        build("text/huggingface", checkpoint=str(tmp_path), length=6)


def test_architecture_with_a_long_key_quotes_it_shortened() -> None:
    with pytest.raises(
        ValueError, match=r"^config\.json has x{59}… 99999999999; at most"
    ) as caught:
        architectures.check_sizes({"x" * 5000: 99_999_999_999}, "config.json")
    assert len(str(caught.value)) < 200
