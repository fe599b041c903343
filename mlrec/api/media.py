"""The media of items, as a caller names and receives them."""

from __future__ import annotations

import numpy as np

from mlrec.api.settings import check_number
from mlrec.data.decode import decode_items, members_of
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import Data
from mlrec.runtime.printable import as_cell

MAX_PX = 8192


def input_spec(data: Data, name: str, frames: int | None, size: int | None) -> InputSpec:
    """Return the input of the media `name`.

    Raises:
        ValueError: the data set does not hold it, or a number is out of range.
    """
    info = data.info.media
    held = [f"features/{feature}" for feature in info.features]
    if info.has_cover:
        held.insert(0, "cover")
    if info.kind != "none":
        held.insert(0, "video")
    if name not in held:
        choices = " or ".join(map(repr, held)) or "nothing: it has no media"
        raise ValueError(f"{data.url} has no {name!r} of its items. Pass {choices}")
    if name.startswith("features/"):
        feature = name.removeprefix("features/")
        return InputSpec(Modality.FEATURES, length=info.features[feature], name=feature)
    size = info.size if size is None else check_number("size", size, 1, MAX_PX)
    if name == "cover":
        return InputSpec(Modality.COVER, size=size)
    frames = info.frames if frames is None else check_number("frames", frames, 1)
    return InputSpec(Modality.VIDEO, frames=frames, size=size)


def read_item(data: Data, number: int, spec: InputSpec) -> np.ndarray:
    """Return an input of one item.

    Args:
        number: place of the item in the catalogue, from 1.

    Raises:
        ValueError: the item cannot be read.
    """
    info = data.info.media
    samples = data.store.read_many([number], members_of([spec], info))
    decoded = decode_items(samples, 1, [spec], info)
    if decoded.bad_items:
        raw_id = str(data.catalogue.table["raw_id"][number - 1].as_py())
        raise ValueError(
            f"Cannot read item {as_cell(raw_id)} of {data.url}: {decoded.bad_items[number]}"
        )
    return decoded.media[spec][0].numpy()
