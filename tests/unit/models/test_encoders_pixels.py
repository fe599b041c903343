"""Pixel preprocessing of checkpoints, compared with what transformers does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlrec.models.encoders import ENCODERS, EncoderContext
from mlrec.models.encoders.pixels import PixelValues, read_pixels
from mlrec.models.encoders.preprocessors import find_pixels

HALF = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
SQUARE = {"size": {"height": 32, "width": 32}}
CROPPED = {
    "size": {"shortest_edge": 40},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
}


def values(processor: str, **stated: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Our values and transformers' for a random image of the size that the processor resizes to."""
    import transformers

    class_name = (
        processor if hasattr(transformers, f"{processor}Pil") is False else f"{processor}Pil"
    )
    theirs = getattr(transformers, class_name)(**stated)
    pixels = read_pixels(
        {**stated, "image_processor_type": processor},
        "preprocessor_config.json",
        "Set another",
    )
    image = np.random.default_rng(0).integers(
        0, 256, (pixels.resized, pixels.resized, 3), dtype=np.uint8
    )
    images = [image] if "Video" not in processor and "Vivit" not in processor else [[image]]
    expected = theirs(images, return_tensors="pt", input_data_format="channels_last")[
        "pixel_values"
    ]
    actual = PixelValues(pixels)(torch.from_numpy(image)[None], torch.float32)
    return actual, expected.reshape(actual.shape).float()


@pytest.mark.parametrize(
    ("processor", "stated"),
    [
        ("ViTImageProcessor", {**SQUARE, **HALF}),
        ("ViTImageProcessor", {**SQUARE, **HALF, "do_normalize": False}),
        (
            "ViTImageProcessor",
            {
                **SQUARE,
                "image_mean": [123.7, 116.3, 103.5],
                "image_std": [58.4, 57.1, 57.4],
                "do_rescale": False,
            },
        ),
        ("ViTImageProcessor", {**SQUARE, "do_rescale": False, "do_normalize": False}),
        ("ViTImageProcessor", {**SQUARE, **HALF, "rescale_factor": 1 / 127.5}),
        ("ViTImageProcessor", {**SQUARE, "image_mean": 0.5, "image_std": 0.25}),
        ("ViTImageProcessor", {"size": 32, **HALF}),
        ("VideoMAEImageProcessor", {**CROPPED, **HALF}),
        ("VideoMAEImageProcessor", {**CROPPED, **HALF, "do_center_crop": False}),
        ("CLIPImageProcessor", {**CROPPED, **HALF, "do_convert_rgb": True}),
        ("BitImageProcessor", {**CROPPED, **HALF, "resample": 3}),
        ("SiglipImageProcessor", {**SQUARE, **HALF}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.875, **HALF}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "crop_pct": 0.875, **HALF}),
        ("MobileViTImageProcessor", {**CROPPED, "do_flip_channel_order": True}),
        ("VivitImageProcessor", {**CROPPED, **HALF, "offset": True, "rescale_factor": 1 / 127.5}),
        ("VivitImageProcessor", {**CROPPED, **HALF, "offset": False, "rescale_factor": 1 / 255}),
        ("VivitImageProcessor", {**CROPPED, **HALF, "rescale_factor": 1 / 127.5}),
    ],
)
def test_pixel_values_are_those_of_transformers(processor: str, stated: dict[str, Any]) -> None:
    actual, expected = values(processor, **stated)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"image_mean": None}, "image_mean is None, and do_normalize is not false"),
        ({"image_std": None}, "image_std is None"),
        ({"image_mean": [0.5]}, r"image_mean.*\[0\.5\]"),
        ({"image_mean": [0.5] * 4}, "image_mean"),
        ({"image_mean": "0.5"}, "image_mean.*'0.5'"),
        ({"image_mean": [float("nan")] * 3}, "image_mean"),
        ({"image_mean": True}, "image_mean"),
        ({"image_std": 0}, "image_std"),
        ({"image_std": [0.5, -0.5, 0.5]}, "image_std"),
        ({"rescale_factor": None}, "rescale_factor"),
        ({"rescale_factor": 0}, "rescale_factor"),
        ({"do_rescale": "yes"}, "do_rescale is 'yes'"),
        ({"do_rescale": None}, "do_rescale is None"),
        ({"do_normalize": None}, "do_normalize is None"),
        ({"do_normalize": 1}, "do_normalize is 1"),
        (
            {"do_flip_channel_order": True},
            "do_flip_channel_order is True, which of transformers' processors only MobileViT's",
        ),
        ({"offset": True, "do_rescale": False}, "offset is True, and do_rescale is false"),
        ({"size": {"height": 32, "width": 48}}, "mlrec's images are squares"),
        ({"size": {"longest_edge": 32}}, "size is .* squares"),
        ({"size": {"shortest_edge": 0}}, "shortest_edge"),
        ({"size": 10**9}, "size"),
        ({"do_center_crop": True}, "crop_size is None, and do_center_crop is true"),
        (
            {"do_center_crop": True, "crop_size": 48, "size": 32},
            "crop_size is 48, which is larger than size, 32",
        ),
        ({"crop_size": 24, "size": 32}, "do_center_crop is None, and crop_size is not size"),
        ({"do_pad": True}, "do_pad is True, a step that mlrec does not know"),
        ({"do_convert_grayscale": True}, "do_convert_grayscale"),
        ({"do_reduce_labels": True}, "do_reduce_labels"),
        ({"size_divisor": 32}, "size_divisor is 32"),
        ({"\x1b[2J": 1}, r"\\x1b\[2J"),
        ({"image_processor_type": "LevitImageProcessor"}, "whose steps mlrec does not know"),
    ],
)
def test_read_pixels_of_an_unknown_step_names_the_key(stated: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        read_pixels({**HALF, **stated}, "FOLDER/preprocessor_config.json", "Set another")
    assert "FOLDER/preprocessor_config.json" in str(raised.value)
    assert "Set another." in str(raised.value)


@pytest.mark.parametrize(
    "harmless",
    [{"do_convert_rgb": None}, {"do_pad": False}, {"_valid_processor_keys": ["a"]}, {"fps": 24}],
)
def test_read_pixels_with_harmless_keys_accepts_them(harmless: dict[str, Any]) -> None:
    assert read_pixels({**HALF, **harmless}, "file", "Set another").mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("files", "video", "mean"),
    [
        ({"preprocessor_config.json": 0.1, "video_preprocessor_config.json": 0.2}, True, 0.2),
        ({"preprocessor_config.json": 0.1, "video_preprocessor_config.json": 0.2}, False, 0.1),
        ({"video_preprocessor_config.json": 0.2}, False, 0.2),
        ({"preprocessor_config.json": 0.1}, True, 0.1),
        (
            {"preprocessor_config.json": 0.1, "processor_config.json": {"image_processor": 0.3}},
            False,
            0.3,
        ),
        ({"processor_config.json": {"image_processor": 0.3, "video_processor": 0.4}}, True, 0.4),
        ({"preprocessor_config.json": 0.1, "processor_config.json": {}}, True, 0.1),
    ],
)
def test_find_pixels_reads_the_statement_for_the_modality(
    files: dict[str, Any], video: bool, mean: float, tmp_path: Path
) -> None:
    def statement(value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {kind: statement(inner) for kind, inner in value.items()}
        return {"image_mean": value, "image_std": 0.5}

    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(statement(value)))
    statement = find_pixels(str(tmp_path), "video/videomae", video)
    assert statement is not None
    assert statement[0].mean == (mean,) * 3


@pytest.mark.parametrize("content", ["[1]", "{", "[" * 100_000, "null"])
def test_find_pixels_of_a_file_without_an_object_names_it(content: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"preprocessor_config\.json"):
        find_pixels(str(tmp_path), "video/videomae", video=True)


def test_pixel_options_replace_the_files_values(tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    tiny = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **tiny)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({**HALF, **CROPPED, "do_rescale": False})
    )

    def build(**options: Any) -> Any:
        row = ENCODERS["image/huggingface"].changed(
            "image/huggingface", {"checkpoint": str(tmp_path), **options}
        )
        return row.build(row, EncoderContext(16, 50, scratch=False, name="image/huggingface"))

    assert build().spec.size == 40
    assert build().normalize.pixels.size == 32
    assert build(mean=[0.1] * 3, std=[0.2] * 3).normalize.pixels.mean == (0.1, 0.1, 0.1)
    assert build(mean=[0.1] * 3, std=[0.2] * 3).spec.size == 32
