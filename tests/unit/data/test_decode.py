import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from rich.console import Console

from mlrec.config import DataConfig
from mlrec.data.decode import check_inputs, decode_items, members_of
from mlrec.data.decoders import resampled
from mlrec.data.format import AUDIO_RATE, MediaInfo
from mlrec.data.media.policies import middle, uniform
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import Data, open_data
from shards_tools.make import make
from shards_tools.pack.settings import Settings


def test_frame_policies() -> None:
    assert middle(100, 5, 1).tolist() == [48, 49, 50, 51, 52]
    assert middle(100, 3, 10).tolist() == [40, 50, 60]
    assert middle(3, 5, 1).tolist() == [0, 0, 1, 2, 2], "a short video repeats its ends"
    assert uniform(10, 5, 1).tolist() == [1, 3, 5, 7, 9]


def test_stored_frames_are_repeated_or_thinned_out() -> None:
    assert resampled(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert resampled(5, 10).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert resampled(4, 2).tolist() == [1, 3]


@pytest.mark.parametrize(("frames", "size"), [(5, 32), (16, 48), (2, 16)])
def test_a_video_has_the_shape_that_the_encoder_asks_for(
    data: Data, frames: int, size: int
) -> None:
    spec = InputSpec(Modality.VIDEO, frames=frames, size=size)
    members = data.store.read(1, members_of([spec], data.info.media))
    media, valid, _ = decode_items([(1, members)], 1, [spec], data.info.media)
    assert media[spec].shape == (1, frames, size, size, 3)
    assert media[spec].dtype == torch.uint8
    assert valid.all()
    assert media[spec].float().std() > 10


def test_what_cannot_be_decoded_is_zeros_and_has_its_reason(data: Data) -> None:
    spec = InputSpec(Modality.VIDEO, frames=5, size=32)
    members = data.store.read(1, members_of([spec], data.info.media))
    samples = [(7, {**members, "2.jpg": b"no jpeg"}), (8, members), (9, "the shard is gone")]
    media, valid, bad_items = decode_items(samples, 3, [spec], data.info.media)
    assert valid.tolist() == [False, True, False]
    assert media[spec].flatten(1).any(dim=1).tolist() == [False, True, False]
    assert bad_items.keys() == {7, 9}
    assert bad_items[9] == "the shard is gone"


def test_clips_are_decoded_to_the_frames_that_are_asked_for(raw_dir: Path, tmp_path: Path) -> None:
    settings = Settings(media="clip", policy="uniform", size=48)
    make(raw_dir, str(tmp_path / "clips"), settings, 2, None, Console(file=io.StringIO()))
    data = open_data(DataConfig(url=str(tmp_path / "clips"), cache_dir=str(tmp_path / "cache")))
    spec = InputSpec(Modality.VIDEO, frames=6, size=32)
    members = data.store.read(2, members_of([spec], data.info.media))
    media, valid, _ = decode_items([(2, members)], 1, [spec], data.info.media)
    assert valid.all()
    assert media[spec].shape == (1, 6, 32, 32, 3)
    assert media[spec].float().std() > 10


def test_an_input_that_the_data_set_does_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no video of its items"):
        check_inputs([InputSpec(Modality.VIDEO)], MediaInfo(kind="none"), "data")


def test_an_item_without_a_cover_has_a_black_one(data: Data) -> None:
    spec = InputSpec(Modality.COVER, size=8)
    media, valid, _ = decode_items([(1, {})], 1, [spec], data.info.media)
    assert valid.all() and not media[spec].any()


def test_titles_become_token_ids(data: Data) -> None:
    spec = InputSpec(Modality.TITLE, length=16)
    members = data.store.read(1, members_of([spec], data.info.media))
    media, valid, _ = decode_items([(1, members)], 1, [spec], data.info.media)
    assert valid.all()
    assert media[spec].shape == (1, 2, 16)
    tokens, mask = media[spec][0]
    text = bytes(int(token) - 3 for token in tokens[mask.bool()][1:-1]).decode()
    assert text == data.catalogue.title(1)[:14]


@pytest.mark.parametrize(("seconds", "length"), [(2, 16_000), (1, 20_000)])
def test_audio_is_the_middle_of_the_sound_or_has_silence_behind_it(
    seconds: int, length: int
) -> None:
    sound = (8000 * np.sin(np.arange(seconds * AUDIO_RATE) / 20)).astype(np.int16)
    spec = InputSpec(Modality.AUDIO, length=length)
    info = MediaInfo(kind="none", has_audio=True)
    samples = [(1, {"flac": flac(sound)}), (2, {"flac": b"no sound"}), (3, {})]
    media, valid, bad_items = decode_items(samples, 3, [spec], info)
    assert valid.tolist() == [True, False, True]
    assert "of a format that is not read as audio" in bad_items[2]
    assert media[spec].dtype == torch.int16
    start = max(0, len(sound) - length) // 2
    expected = np.pad(sound[start : start + length], (0, max(0, length - len(sound))))
    assert torch.equal(media[spec][0], torch.from_numpy(expected)), "FLAC loses nothing"
    assert not media[spec][2].any(), "an item without a sound track is silent"


def flac(sound: np.ndarray) -> bytes:
    sink = io.BytesIO()
    with av.open(sink, "w", format="flac") as target:
        stream = target.add_stream("flac", rate=AUDIO_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        frame.rate = AUDIO_RATE
        target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return sink.getvalue()
