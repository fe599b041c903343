"""Policy title: the frames that a CLIP checkpoint finds closest to an item's title."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from published_checkpoints import IMAGE, rewrite, save_clip
from small_encoders import TRANSFORMER

from mlrec import storage
from mlrec.data.format import MediaInfo
from mlrec.data.media.frames import decode_video
from mlrec.data.media.policies import FrameRequest
from shards_tools.pack.clip import check_checkpoint, load_similarity
from shards_tools.pack.media import encode_h264, encode_jpeg, video_members

SIDE = 32
LENGTH = 20
"""Frames of the video, of which all are candidates."""
WORDS = ["a", "red", "blue", "car", "sky", "[BOS]", "[EOS]"]
FIRST_TOKEN = 2
"""Token of the first of WORDS."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP checkpoint with random weights."""
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to damage."""
    return Path(shutil.copytree(published, tmp_path / "clip"))


@pytest.fixture(scope="module")
def video() -> bytes:
    """A video of smooth random images, each different from the others."""
    coarse = np.random.default_rng(1).integers(0, 256, (LENGTH, 4, 4, 3), dtype=np.uint8)
    return encode_h264(coarse.repeat(8, axis=1).repeat(8, axis=2), 24, gop=8, crf=10)


def direct_similarities(folder: Path, images: np.ndarray, title: str) -> np.ndarray:
    """Return the cosines of images and a title, computed with transformers alone."""
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    tokens = [WORDS.index(word) + FIRST_TOKEN for word in ["[BOS]", *title.split(), "[EOS]"]]
    # the preprocessor's mean and standard deviation are 0.5
    values = torch.from_numpy(images).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([tokens]), pixel_values=values)
    similarities: np.ndarray = (output.image_embeds @ output.text_embeds.T)[:, 0].numpy()
    return similarities


@pytest.mark.parametrize("title", ["a red car", "blue sky"])
def test_video_members_by_title_are_the_closest_frames(
    published: Path, video: bytes, title: str
) -> None:
    frames = decode_video(video, np.arange, SIDE)
    similarities = direct_similarities(published, frames, title)
    assert similarities.std() > 0.01
    closest = np.sort(np.argsort(-similarities)[:5])
    media = MediaInfo(kind="frames", policy="title", frames=5, size=SIDE)
    request = FrameRequest(5, title=title, similarity=load_similarity(str(published)))
    members = video_members(video, media, 90, request)
    assert list(members.values()) == [encode_jpeg(frames[place], 90) for place in closest]


def test_similarity_of_files_that_transformers_wrote_equals_its_own(tmp_path: Path) -> None:
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>"]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: token for token, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[("r", "e"), ("re", "d</w>")])
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE)
    processor = CLIPProcessor(images, tokenizer)
    text = {"vocab_size": len(words), "max_position_embeddings": 12, **TRANSFORMER}
    text |= {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=IMAGE, initializer_factor=20.0)
    model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)

    colors = np.random.default_rng(0).integers(0, 256, (3, 1, 1, 3), dtype=np.uint8)
    frames = colors.repeat(SIDE, axis=1).repeat(SIDE, axis=2)
    inputs = processor(text=["A red car"], images=list(frames), return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs).logits_per_image[:, 0].numpy()
    actual = load_similarity(str(tmp_path))(frames, "A red car")
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert expected.std() > 0.01 * abs(expected.mean())


def test_similarity_does_not_depend_on_the_number_of_threads(published: Path) -> None:
    similarity = load_similarity(str(published))
    images = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)
    before = torch.get_num_threads()
    results = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        results.append(similarity(images, "a red car"))
    torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])


def test_similarity_of_a_long_title_reads_its_beginning(published: Path) -> None:
    similarity = load_similarity(str(published))
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    # eight positions, of which two are the first and the last token
    expected = similarity(images, "red " * 6)
    np.testing.assert_array_equal(similarity(images, "red " * 6 + "car " * 100_000), expected)


def test_check_checkpoint_at_a_url_returns_the_sha256_of_its_weights(published: Path) -> None:
    sha256 = storage.sha256_of(str(published / "model.safetensors"))
    assert check_checkpoint(str(published)) == sha256
    url = f"memory://{published.name}"
    for path in published.iterdir():
        storage.write_bytes(storage.join(url, path.name), path.read_bytes())
    assert check_checkpoint(url) == sha256


def test_load_similarity_with_the_nested_preprocessor_reads_it(
    folder: Path, published: Path
) -> None:
    file = folder / "preprocessor_config.json"
    nested = {"image_processor": json.loads(file.read_text())}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    file.unlink()
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    expected = load_similarity(str(published))(images, "a")
    np.testing.assert_array_equal(load_similarity(str(folder))(images, "a"), expected)


def _pickle_only(folder: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _change_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _many_tokens(folder: Path) -> None:
    file = folder / "tokenizer.json"
    document = json.loads(file.read_text())
    document["model"]["vocab"] |= {f"word{token}": token for token in range(9, 99)}
    file.write_text(json.dumps(document))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "has no config.json. It takes the folder of a CLIP model"),
    "pickled weights alone": (_pickle_only, "has no model.safetensors"),
    "another model": (
        lambda folder: _change_config(folder, model_type="bert"),
        "is a model of type 'bert' by its config.json",
    ),
    "an absurd size": (
        lambda folder: _change_config(folder, text_config={"num_hidden_layers": 10**6}),
        "num_hidden_layers 1000000; at most 1,000",
    ),
    "a config of other shapes": (
        lambda folder: _change_config(folder, projection_dim=16),
        r"cannot be loaded \(2 have another shape: .* is \[8, 16\] instead of \[16, 16\]",
    ),
    "a missing tensor": (
        lambda folder: rewrite(
            folder, lambda tensors: {name: tensors[name] for name in sorted(tensors)[1:]}
        ),
        "1 of the model's .* tensors are missing: logit_scale",
    ),
    "weights that are not finite": (
        lambda folder: rewrite(
            folder, lambda tensors: tensors | {"logit_scale": torch.tensor(float("nan"))}
        ),
        "logit_scale has 1 values that are NaN or infinite",
    ),
    "weights cut short": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"abc"),
        "cannot be loaded .*. Download the checkpoint again, or choose another",
    ),
    "a config that is not JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "config.json is invalid",
    ),
    "the tokenizer of another model": (_many_tokens, "has 99 tokens, and the model 9"),
    "a damaged tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        "cannot be loaded",
    ),
    "no preprocessor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "has no preprocessor_config.json",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_check_checkpoint_that_cannot_be_used_raises(folder: Path, damage: str) -> None:
    change, words = DAMAGES[damage]
    change(folder)
    with pytest.raises(ValueError, match=words) as raised:
        check_checkpoint(str(folder))
    assert str(folder) in str(raised.value)
