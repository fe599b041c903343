"""Decode JPEGs on a device: with nvJPEG on a GPU, through torchvision."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

import numpy as np
import simplejpeg
import torch

from mlrec.data.media.jpeg import decode_jpeg
from mlrec.runtime.printable import brief

log = logging.getLogger(__name__)

DecodeJpegs = Callable[[list[torch.Tensor], torch.device], torch.Tensor]
"""(JPEGs of one size, each as uint8 [bytes] in host memory, device) to uint8 [n, 3, H, W] on it.

It raises RuntimeError if it cannot decode one of them.
"""

_TRIED_SIZE_PX = 32
"""Height and width of the image that is decoded to try a device."""


def _decode_with_nvjpeg(jpegs: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    from torchvision.io import ImageReadMode
    from torchvision.io import decode_jpeg as decode_jpegs

    # torchvision takes memory of the current stream and writes to it from another one, without
    # waiting for kernels that may still read it. On a stream that only decodes there are none,
    # and the GPU encodes the last chunk meanwhile.
    stream = _decoding_stream(device)
    stream.synchronize()
    with torch.cuda.stream(stream):
        images = torch.stack(decode_jpegs(jpegs, mode=ImageReadMode.RGB, device=device))
    current_stream = torch.cuda.current_stream(device)
    current_stream.wait_stream(stream)
    images.record_stream(current_stream)
    return images


@functools.cache
def _decoding_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


DEVICE_DECODERS: dict[str, DecodeJpegs] = {"cuda": _decode_with_nvjpeg}
"""Decoder by the type of the device."""


def check_device_decoder(device: torch.device) -> None:
    """Check that JPEGs can be decoded on the device, by decoding one.

    Raises:
        ValueError: they cannot.
    """
    if device.type not in DEVICE_DECODERS:
        raise ValueError(
            f"data.decode_on is device, and JPEGs cannot be decoded on the device {device}, only "
            "on a GPU. Set data.decode_on=host"
        )
    black = np.zeros((_TRIED_SIZE_PX, _TRIED_SIZE_PX, 3), dtype=np.uint8)
    jpeg = torch.frombuffer(bytearray(simplejpeg.encode_jpeg(black)), dtype=torch.uint8)
    try:
        DEVICE_DECODERS[device.type]([jpeg], device)
    # AttributeError: torchvision's extension module could not be loaded.
    except (ImportError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"data.decode_on is device, and JPEGs cannot be decoded on {device}: {brief(error)}. "
            "Install the torchvision that matches torch (pip install 'mlrec[nvjpeg]'), or set "
            "data.decode_on=host"
        ) from error


def decode_on_device(
    jpegs: Sequence[torch.Tensor], stored: int, device: torch.device
) -> torch.Tensor:
    """Return JPEGs of stored x stored pixels as uint8 [n, 3, stored, stored] on the device.

    Those that the device's decoder refuses are decoded on the host.

    Args:
        jpegs: at least one, each as uint8 [bytes] in host memory.

    Raises:
        RuntimeError: the host cannot decode one either.
    """
    decode = DEVICE_DECODERS[device.type]
    try:
        return decode(list(jpegs), device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        # The batch has no partial result: find the JPEG that was refused.
        return torch.cat([_decode_one(jpeg, stored, device) for jpeg in jpegs])


def _decode_one(jpeg: torch.Tensor, stored: int, device: torch.device) -> torch.Tensor:
    try:
        return DEVICE_DECODERS[device.type]([jpeg], device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = brief(error)
    try:
        pixels = decode_jpeg(jpeg.numpy().tobytes(), stored)
    except ValueError as error:
        raise RuntimeError(
            f"A JPEG of the data set cannot be decoded, neither on {device} ({reason}) nor on the "
            f"host ({brief(error)}). Set data.decode_on=host, which leaves its item out"
        ) from error
    _report_fallback(str(device), reason)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device)


# Once per reason: thousands of images may share it.
@functools.cache
def _report_fallback(device: str, reason: str) -> None:
    log.warning(
        "a JPEG cannot be decoded on %s (%s): it and others like it are decoded on the host",
        device,
        reason,
    )
