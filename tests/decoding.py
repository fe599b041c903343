"""A stand-in for the decoder of a GPU: it decodes on the host, so that pixels are equal."""

import pytest
import simplejpeg
import torch

from mlrec.data.media import device_jpeg


def host_images(jpegs: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Decode JPEGs as a device's decoder does; RuntimeError for one that is damaged."""
    images = []
    for jpeg in jpegs:
        assert jpeg.dtype is torch.uint8 and jpeg.dim() == 1 and jpeg.is_contiguous()
        settings = {"fastdct": False, "fastupsample": False}
        try:
            pixels = simplejpeg.decode_jpeg(jpeg.numpy().tobytes(), "RGB", **settings)
        except ValueError as error:
            raise RuntimeError(f"cannot decode: {error}") from error
        images.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return torch.stack(images).to(device)


def let_cpu_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU count as a device that decodes JPEGs."""
    monkeypatch.setitem(device_jpeg.DEVICE_DECODERS, "cpu", host_images)
