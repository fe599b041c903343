"""Features in the samples of a data set: bounded in dataset.json, decoded like other members."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mlrec.data.decode import decode_items, members_of
from mlrec.data.format import DATASET_FILE, MediaInfo, npy_bytes, parse_dataset_info
from mlrec.data.samples import Sample
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.random_media import random_media

MEDIA = MediaInfo("none", features={"text": 3})
TEXT = InputSpec(Modality.FEATURES, length=3, name="text")
VECTOR = np.array([1.0, -2.5, 3.0], np.float32)


def test_decode_items_of_features_are_vectors_or_zeros() -> None:
    members = {"text.npy": npy_bytes(VECTOR)}
    decoded = decode_items([Sample(1, members), Sample(2, {})], 2, [TEXT], MEDIA)
    expected = torch.stack([torch.from_numpy(VECTOR), torch.zeros(3)])
    assert torch.equal(decoded.media[TEXT], expected)
    assert decoded.bad_items == {}
    assert members_of([TEXT], MEDIA) == ["text.npy"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy_bytes(VECTOR[:2]), "text.npy is not a vector of 3 finite values"),
        (npy_bytes(VECTOR * np.nan), "text.npy is not a vector of 3 finite values"),
        (npy_bytes(VECTOR.astype(np.float64)), "an .npy file of float64, expected float32"),
        (npy_bytes(VECTOR[None]), "an .npy file of shape [1, 3], expected 1 dimension(s)"),
        (b"", "not an .npy file: its header cannot be read"),
    ],
)
def test_decode_items_damaged_features_make_a_bad_item(content: bytes, words: str) -> None:
    decoded = decode_items([Sample(7, {"text.npy": content})], 1, [TEXT], MEDIA)
    assert decoded.bad_items == {7: words}
    assert not decoded.media[TEXT].any() and not decoded.valid_n.any()


def test_random_media_of_features_have_the_stream_s_shape() -> None:
    media = random_media(TEXT, 4)
    assert media.shape == (4, 3)
    assert media.dtype is torch.float32


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"../text": 3}, "'../text' have a name that is not 1 to 64 letters, digits, _ or -"),
        ({"text": 0}, r"features\.text is 0"),
        ({"text": 1 << 17}, r"features\.text is 131072"),
        ({"text": "3"}, r"features\.text is '3'"),
        ({f"f{place}": 1 for place in range(33)}, "features"),
    ],
)
def test_parse_dataset_info_impossible_features_are_refused(
    features: dict[str, object], words: str, dataset_dir: Path
) -> None:
    content = json.loads((dataset_dir / DATASET_FILE).read_text())
    content["media"]["features"] = features
    with pytest.raises(ValueError, match=words):
        parse_dataset_info(json.dumps(content).encode(), "dataset.json")


def test_parse_dataset_info_of_version_1_has_no_features(dataset_dir: Path) -> None:
    content = json.loads((dataset_dir / DATASET_FILE).read_text())
    del content["media"]["features"]
    content["version"] = 1
    info = parse_dataset_info(json.dumps(content).encode(), "dataset.json")
    assert info.media.features == {}
