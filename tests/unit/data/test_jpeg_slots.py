"""JPEGs that the device decodes: slots, their sizes, images, and what the host takes over."""

import io
import logging
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, call

import numpy as np
import pytest
import simplejpeg
import torch
from decoding import host_images, let_cpu_decode
from rich.console import Console

from mlrec.config import DataConfig
from mlrec.data.decode import (
    decode_items,
    item_bytes,
    item_shape,
    media_to_device,
    members_of,
    with_jpegs,
)
from mlrec.data.decode_on import (
    check_decode_on,
    delivered_for_ranking,
    delivered_inputs,
)
from mlrec.data.media import device_jpeg
from mlrec.data.media.device_jpeg import decode_on_device
from mlrec.data.samples import Sample
from mlrec.data.schema import InputSpec, JpegSlots, Modality
from mlrec.data.stream import Data, open_data
from mlrec.models.chunks import media_of_rows
from mlrec.runtime.distributed import World
from shards_tools.make import make
from shards_tools.pack.settings import Settings

CPU = torch.device("cpu")
META = torch.device("meta")
ALONE = World(rank=0, size=1, device=CPU, nodes=(1,))
VIDEO = InputSpec(Modality.VIDEO, frames=5, size=32)
COVER = InputSpec(Modality.COVER, size=32)
TITLE = InputSpec(Modality.TITLE, length=8)


def jpeg_spec(data: Data, spec: InputSpec) -> InputSpec:
    (changed,) = with_jpegs([spec], data.info.media, data.catalogue, data.url)
    return changed


def samples_of(data: Data, spec: InputSpec, items: list[int]) -> list[Sample]:
    names = members_of([spec], data.info.media)
    return [
        Sample(item, data.store.with_title(item, data.store.read(item, names), names))
        for item in items
    ]


def as_jpeg(image: np.ndarray) -> torch.Tensor:
    return torch.frombuffer(bytearray(simplejpeg.encode_jpeg(image)), dtype=torch.uint8)


def test_with_jpegs_slots_hold_the_largest_member(data: Data) -> None:
    sizes: dict[str, int] = {}
    for item in range(1, data.catalogue.size + 1):
        for member in data.catalogue.members(item):
            sizes[member.name] = max(member.size, sizes.get(member.name, 0))
    of_frames = max(size for name, size in sizes.items() if name[0].isdigit())
    assert jpeg_spec(data, VIDEO).jpegs == JpegSlots(5, 32, of_frames)
    assert jpeg_spec(data, COVER).jpegs == JpegSlots(1, 32, sizes["cover.jpg"])
    # of the second and fourth frame alone
    two_frames = jpeg_spec(data, replace(VIDEO, frames=2)).jpegs
    assert two_frames == JpegSlots(2, 32, max(sizes["1.jpg"], sizes["3.jpg"]))
    # no frame is kept twice
    eight_frames = jpeg_spec(data, replace(VIDEO, frames=8)).jpegs
    assert eight_frames == JpegSlots(5, 32, of_frames)
    assert jpeg_spec(data, TITLE) is TITLE
    assert data.catalogue.largest_member(["missing"]) == 0


def test_item_bytes_of_jpegs_are_those_of_slots(data: Data) -> None:
    spec = jpeg_spec(data, VIDEO)
    assert spec.jpegs is not None
    assert item_shape(spec) == ((5, 4 + spec.jpegs.most_bytes), torch.uint8)
    assert item_bytes([spec, spec, TITLE]) == 5 * (4 + spec.jpegs.most_bytes) + 2 * 8 * 8


@pytest.mark.parametrize("spec", [VIDEO, replace(VIDEO, frames=2), replace(VIDEO, frames=8), COVER])
def test_to_device_of_jpegs_equals_decoding_on_the_host(
    data: Data, spec: InputSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_cpu_decode(monkeypatch)
    samples = samples_of(data, spec, [1, 2, 3])
    damaged = Sample(4, dict.fromkeys(samples[0].members, b"no jpeg"))
    expected = decode_items([*samples, damaged], 4, [spec], data.info.media)
    delivered = jpeg_spec(data, spec)
    slots = decode_items([*samples, damaged], 4, [delivered], data.info.media)
    assert slots.valid_n.tolist() == expected.valid_n.tolist() == [True, True, True, False]
    assert slots.bad_items == expected.bad_items
    pixels = media_to_device(slots.media[delivered], delivered, CPU)
    assert pixels.equal(expected.media[spec]) and pixels.is_contiguous()
    assert expected.media[spec][:3].float().std() > 10
    assert not pixels[3].any(), "an unreadable item is black"


def test_media_of_rows_of_jpegs_decodes_the_rows_of_a_chunk(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_cpu_decode(monkeypatch)
    samples = samples_of(data, COVER, [1, 2, 3])
    spec = jpeg_spec(data, COVER)
    pixels = decode_items(samples, 3, [COVER], data.info.media).media[COVER]
    slots = {spec: decode_items(samples, 3, [spec], data.info.media).media[spec]}
    for rows in ([1, 2], [0, 2], [1]):
        assert media_of_rows(slots, torch.tensor(rows), CPU)[spec].equal(pixels[rows])
    blank = media_of_rows(slots, torch.arange(0), CPU)[spec]
    assert blank.equal(torch.zeros_like(pixels[:1]))


@pytest.mark.parametrize("size", [16, 24, 48])
def test_to_device_scales_as_the_host_does(
    data: Data, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_cpu_decode(monkeypatch)
    spec = replace(VIDEO, size=size)
    samples = samples_of(data, spec, [1, 2])
    expected = decode_items(samples, 2, [spec], data.info.media).media[spec].int()
    delivered = jpeg_spec(data, spec)
    slots = decode_items(samples, 2, [delivered], data.info.media).media[delivered]
    pixels = media_to_device(slots, delivered, CPU).int()
    assert (pixels - expected).abs().max() <= 1


def test_missing_covers_of_jpegs_are_black(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    let_cpu_decode(monkeypatch)
    spec = jpeg_spec(data, COVER)
    (sample,) = samples_of(data, COVER, [1])
    decoded = decode_items([Sample(1, {}), sample, Sample(3, {})], 3, [spec], data.info.media)
    assert decoded.valid_n.all()
    pixels = media_to_device(decoded.media[spec], spec, CPU)
    assert pixels.flatten(1).any(dim=1).tolist() == [False, True, False]


def test_write_slot_of_a_jpeg_larger_than_the_catalogue_says_is_a_bad_item(data: Data) -> None:
    spec = replace(COVER, jpegs=JpegSlots(1, 32, 100))
    decoded = decode_items(samples_of(data, COVER, [1]), 1, [spec], data.info.media)
    assert not decoded.valid_n.any() and not decoded.media[spec].any()
    assert "at most 100 by the data set's catalogue" in decoded.bad_items[1]


def test_decode_on_device_refused_jpeg_is_decoded_on_the_host_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    jpegs = [as_jpeg(image) for image in images]

    def refuse_second(batch: list[torch.Tensor], device: torch.device) -> torch.Tensor:
        if any(jpeg is jpegs[1] for jpeg in batch):
            raise RuntimeError("Failed to decode batch: 2.")
        return host_images(batch, device)

    monkeypatch.setitem(device_jpeg.DEVICE_DECODERS, "cpu", refuse_second)
    device_jpeg._report_fallback.cache_clear()
    with caplog.at_level(logging.WARNING):
        decoded = [decode_on_device(jpegs, 16, CPU) for _ in range(2)]
    for result in decoded:
        assert result.equal(host_images(jpegs, CPU))
    assert [record.getMessage() for record in caplog.records] == [
        "a JPEG cannot be decoded on cpu (Failed to decode batch: 2): it and others like it are "
        "decoded on the host"
    ]


def test_decode_on_device_jpeg_that_nothing_decodes_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_cpu_decode(monkeypatch)
    jpeg = as_jpeg(np.zeros((16, 16, 3), dtype=np.uint8))[:-200]
    with pytest.raises(
        RuntimeError,
        match=r"neither on cpu \(cannot decode: .*\) nor on the host \(.*\)\. "
        r"Set data\.decode_on=host, which leaves its item out$",
    ):
        decode_on_device([jpeg], 16, CPU)


def test_decode_on_device_out_of_memory_is_no_reason_to_decode_on_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(batch: list[torch.Tensor], device: torch.device) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(device_jpeg.DEVICE_DECODERS, "cpu", fail)
    with pytest.raises(torch.OutOfMemoryError):
        decode_on_device([as_jpeg(np.zeros((16, 16, 3), dtype=np.uint8))], 16, CPU)


def test_check_decode_on_device_without_a_decoder_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_device = DataConfig(decode_on="device")
    check_decode_on(DataConfig(), CPU)
    with pytest.raises(
        ValueError,
        match=r"^data\.decode_on is device, and JPEGs cannot be decoded on the device cpu, only on "
        r"a GPU\. Set data\.decode_on=host$",
    ):
        check_decode_on(on_device, CPU)
    let_cpu_decode(monkeypatch)
    check_decode_on(on_device, CPU)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("No module named 'torchvision'"),
        RuntimeError("torchvision not compiled with nvJPEG support"),
        AttributeError("'image' object has no attribute 'decode_jpegs_cuda'"),
    ],
)
def test_check_decode_on_device_with_unusable_torchvision_names_the_remedy(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(batch: list[torch.Tensor], device: torch.device) -> torch.Tensor:
        raise error

    monkeypatch.setitem(device_jpeg.DEVICE_DECODERS, "cpu", fail)
    with pytest.raises(ValueError, match="Install the torchvision that matches torch") as caught:
        check_decode_on(DataConfig(decode_on="device"), CPU)
    assert str(error) in str(caught.value) and "mlrec[nvjpeg]" in str(caught.value)


def test_delivered_inputs_of_clips_names_the_remedy(raw_dir: Path, tmp_path: Path) -> None:
    settings = Settings(media="clip", policy="uniform", size=32)
    make(raw_dir, str(tmp_path / "clips"), settings, 2, None, Console(file=io.StringIO()))
    config = DataConfig(
        url=str(tmp_path / "clips"), cache_dir=str(tmp_path / "cache"), decode_on="device"
    )
    clips = open_data(config)
    with pytest.raises(
        ValueError,
        match=r"clips holds clips: only JPEGs are decoded on the device\. Set data\.decode_on="
        r"host, or pack the videos as frames \(mlrec-shards make --media frames\)$",
    ):
        delivered_inputs([VIDEO], clips)
    # covers are JPEGs in every data set
    (cover, title) = delivered_inputs([COVER, TITLE], clips)
    assert cover.jpegs is not None and title is TITLE


def test_delivered_for_ranking_without_a_decoder_is_decoded_on_the_host(
    data: Data, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert delivered_for_ranking([VIDEO], data, ALONE) == (VIDEO,)
    data.config = replace(data.config, decode_on="device")
    with caplog.at_level(logging.WARNING):
        assert delivered_for_ranking([VIDEO], data, ALONE) == (VIDEO,)
    (record,) = caplog.records
    assert record.getMessage().startswith("JPEGs are decoded on the host: data.decode_on is device")
    let_cpu_decode(monkeypatch)
    assert delivered_for_ranking([VIDEO], data, ALONE) == (jpeg_spec(data, VIDEO),)


def test_nvjpeg_decodes_on_a_stream_that_nothing_else_reads_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Only a GPU can show the race that this order of calls prevents.
    gpu = torch.device("cuda", 0)
    calls = Mock()
    monkeypatch.setitem(sys.modules, "torchvision", Mock())
    monkeypatch.setitem(sys.modules, "torchvision.io", calls.io)
    monkeypatch.setattr(torch.cuda, "Stream", calls.Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", calls.current_stream)
    monkeypatch.setattr(torch, "stack", calls.stack)
    device_jpeg._decoding_stream.cache_clear()
    jpegs = [torch.zeros(1, dtype=torch.uint8)]
    assert device_jpeg.DEVICE_DECODERS["cuda"](jpegs, gpu) is calls.stack()
    device_jpeg._decoding_stream.cache_clear()
    own, current = calls.Stream(), calls.current_stream()
    decoded = call.io.decode_jpeg(jpegs, mode=calls.io.ImageReadMode.RGB, device=gpu)
    order = [
        call.Stream(gpu),
        call.Stream().synchronize(),
        decoded,
        call.stack(calls.io.decode_jpeg()),
        call.current_stream(gpu),
        call.current_stream().wait_stream(own),
        call.stack().record_stream(current),
    ]
    assert calls.mock_calls[: len(order)] == order
