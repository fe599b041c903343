"""JPEGs on their way to the device that decodes them: data.decode_on=device.

A slot holds the length of a JPEG (4 bytes, little-endian), its bytes, and room up to the largest
JPEG of the data set. A length of 0 stands for a black image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from mlrec.data.media.device_jpeg import decode_on_device
from mlrec.data.media.jpeg import check_jpeg
from mlrec.data.schema import JpegSlots

LENGTH_BYTES = 4
_LENGTH = np.dtype("<i4")


def write_slot(raw: bytes, stored: int, slot: np.ndarray) -> None:
    """Write a JPEG of stored x stored pixels to a slot, uint8 [LENGTH_BYTES + most_bytes].

    Raises:
        ValueError: it has another size or no header, or is larger than the slot.
    """
    check_jpeg(raw, stored)
    room = len(slot) - LENGTH_BYTES
    if len(raw) > room:
        raise ValueError(
            f"the image takes {len(raw):,} bytes, at most {room:,} by the data set's catalogue"
        )
    slot[:LENGTH_BYTES] = np.array([len(raw)], dtype=_LENGTH).view(np.uint8)
    slot[LENGTH_BYTES : LENGTH_BYTES + len(raw)] = np.frombuffer(raw, dtype=np.uint8)


def clear_slot(slot: np.ndarray) -> None:
    """Make a slot stand for a black image."""
    slot[:LENGTH_BYTES] = 0


def decode_slots(
    slots_nK: torch.Tensor,
    jpegs: JpegSlots,
    positions: Sequence[int],
    size: int,
    device: torch.device,
) -> torch.Tensor:
    """Return the images of n items on the device, uint8 [n, T, size, size, 3].

    Args:
        slots_nK: in host memory, uint8 [n, K, LENGTH_BYTES + most_bytes].
        positions: the slot of each of the T images.
        size: height and width of the images, which are scaled if necessary.
    """
    num_items, count, _ = slots_nK.shape
    slots = slots_nK.flatten(0, 1)
    lengths: list[int] = slots[:, :LENGTH_BYTES].numpy().copy().view(_LENGTH).flatten().tolist()
    encoded = []
    for slot, length in zip(slots, lengths, strict=True):
        if length:
            encoded.append(slot[LENGTH_BYTES : LENGTH_BYTES + length])
    decoded: list[torch.Tensor] = []
    if encoded:
        decoded += _scaled(decode_on_device(encoded, jpegs.size, device), size)
    # Invariant: entry s of the list is the image of slot s.
    images = iter(decoded)
    black = torch.zeros((3, size, size), dtype=torch.uint8, device=device)
    image_of_slot = [next(images) if length else black for length in lengths]
    chosen = []
    for first in range(0, len(lengths), count):
        for position in positions:
            chosen.append(image_of_slot[first + position])
    images_nT = torch.stack(chosen).view(num_items, len(positions), 3, size, size)
    return images_nT.permute(0, 1, 3, 4, 2).contiguous()


def _scaled(images: torch.Tensor, size: int) -> torch.Tensor:
    """Return images, uint8 [n, 3, H, W], of the given height and width."""
    if images.shape[-1] == size:
        return images
    # The filter of the host's decoder, which rounds a second time between the two directions.
    scaled = interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return scaled.round().to(torch.uint8)
