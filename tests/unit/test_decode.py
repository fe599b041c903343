import numpy as np
import pytest

from mlrec.data.decode import check_inputs, decode_item, members_of, resampled
from mlrec.data.format import MediaInfo
from mlrec.data.frames import middle, uniform
from mlrec.data.stream import Data
from mlrec.schema import InputSpec, Modality


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
def test_a_video_has_the_shape_that_the_encoder_asks_for(data: Data, frames: int, size: int) -> None:
    spec = InputSpec(Modality.VIDEO, frames=frames, size=size)
    members = data.store.read(1, members_of([spec], data.info.media))
    video = decode_item(members, spec, data.info.media, 1)
    assert video.shape == (frames, size, size, 3)
    assert video.dtype == np.uint8
    assert video.std() > 10


def test_a_damaged_jpeg_is_a_value_error(data: Data) -> None:
    spec = InputSpec(Modality.VIDEO, frames=5, size=32)
    members = data.store.read(1, members_of([spec], data.info.media))
    with pytest.raises(ValueError):
        decode_item({**members, "2.jpg": b"no jpeg"}, spec, data.info.media, 1)


def test_an_input_that_the_data_set_does_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no video of its items"):
        check_inputs([InputSpec(Modality.VIDEO)], MediaInfo(kind="none"), "data")
