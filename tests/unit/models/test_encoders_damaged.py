"""Checkpoint folders with damaged, missing or impossible files."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published_checkpoints import (
    to_shards,
    video,
)


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
                rf"^config\.json of .* has {key} {re.escape(repr(value))}; "
                "it must be a whole number of 1 or more",
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
def test_damaged_checkpoint_folder_is_an_error_with_a_remedy(
    change: Callable[[Path], None], words: str, copy: Path
) -> None:
    change(copy)
    with pytest.raises(ValueError, match=words):
        video(copy)


def test_missing_checkpoint_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"there is no folder .*/nothing\); set item\.options"
    ) as raised:
        video(tmp_path / "nothing")
    assert "hf download" not in str(raised.value)
