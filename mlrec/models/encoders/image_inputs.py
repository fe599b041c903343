"""Frames, image size and pixel preprocessing of transformers models.

Each value comes from item.options if set there. Otherwise the row and the checkpoint must agree.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from mlrec.models.encoders.architectures import (
    CONFIG_FILE,
    FRAME_KEYS,
    SIZE_KEYS,
    Architecture,
    has_own_files,
)
from mlrec.models.encoders.base import IMAGENET_MEAN, IMAGENET_STD, saved_file
from mlrec.models.encoders.pixels import Pixels
from mlrec.models.encoders.preprocessors import find_pixels
from mlrec.storage.typed_json import parse_json

PIXELS_FILE = "pixels.json"
"""Name of the file in a run's folder that holds the pixel preprocessing."""
DEFAULT_FRAMES = 16
DEFAULT_SIZE = 224
"""Height and width in pixels if neither row nor checkpoint states them."""


def frames_of(architecture: Architecture) -> int:
    """Return T, the number of frames: the option's, the row's or the checkpoint's.

    Raises:
        ValueError: row and checkpoint differ, or T is not a multiple of the tubelet size.
    """
    row = architecture.row
    stated = architecture.stated(FRAME_KEYS)
    _check_same("frames", stated, architecture, CONFIG_FILE)
    frames = row.frames or stated or DEFAULT_FRAMES
    tubelet = getattr(architecture.image, "tubelet_size", None) or 1
    if not isinstance(tubelet, int):
        # ViViT's is a list of frames, height and width
        tubelet = int(tubelet[0])
    if frames % tubelet:
        raise ValueError(
            f"item.options.{architecture.context.name}.frames is {frames}; the model joins "
            f"{tubelet} frames into a token: give a multiple of {tubelet}"
        )
    return frames


def pixels_of(architecture: Architecture, video: bool) -> Pixels:
    """Return the pixel preprocessing at the image size that the model reads.

    Raises:
        ValueError: the preprocessor's file is invalid or has an unknown step, or sizes do not fit.
    """
    row = architecture.row
    context = architecture.context
    if context.files is not None:
        path = saved_file(context.files, PIXELS_FILE)
        return parse_json(path.read_bytes(), Pixels, str(path), "Copy the run's folder again")
    statistics = _statistics(architecture, video)
    stated = architecture.stated(SIZE_KEYS)
    _check_same("size", stated, architecture, CONFIG_FILE)
    _check_same("size", statistics.pixels.size, architecture, statistics.file)
    # The checks above make all stated sizes equal, unless item.options has set another one.
    size = row.size or statistics.pixels.size or stated or DEFAULT_SIZE
    patch = architecture.patch()
    # transformers would leave out the pixels that fill no whole patch, without a warning
    if size % patch:
        raise ValueError(
            f"item.options.{context.name}.size is {size}; the model cuts images into patches of "
            f"{patch} pixels: give a multiple of {patch}"
        )
    return statistics.pixels.of_size(size)


def save_pixels(pixels: Pixels, folder: Path) -> None:
    """Write the pixel preprocessing into `folder`."""
    (folder / PIXELS_FILE).write_text(json.dumps(asdict(pixels), indent=1) + "\n")


def _check_same(option: str, stated: int, architecture: Architecture, file: str) -> None:
    """Check that the row's number, unless the configuration has set it, equals the checkpoint's.

    Args:
        stated: the checkpoint's number; 0 if it states none.
        file: the checkpoint's file that states it, for messages.
    """
    row = architecture.row
    context = architecture.context
    number = getattr(row, option)
    if not number or not stated or number == stated or option in row.configured:
        return
    # a run of an earlier version was trained with the row's number
    if has_own_files(row, context) and not context.restored:
        raise ValueError(
            f"{context.name} reads {option}={number}, and the checkpoint {row.checkpoint!r} "
            f"states {stated} in its {file}; set item.options.{context.name}.{option}={stated}, "
            "or to another number that the model can read"
        )


class _Statistics(NamedTuple):
    """Pixel preprocessing and its origin."""

    pixels: Pixels
    file: str = ""
    """Name of the checkpoint's file; "" if the values are the row's."""


def _statistics(architecture: Architecture, video: bool) -> _Statistics:
    """Return the checkpoint's preprocessing, with mean and std of item.options if set there.

    The row's own values are used if the checkpoint states none.
    """
    row = architecture.row
    context = architecture.context
    of_row = _Statistics(Pixels(row.mean or IMAGENET_MEAN, row.std or IMAGENET_STD))
    overridden = {"mean", "std"} & row.configured
    # runs of earlier versions were trained with the row's values, whatever their checkpoint states
    of_earlier_run = context.restored and row.mean is not None and row.std is not None
    if of_earlier_run or len(overridden) == 2 or not has_own_files(row, context):
        return of_row
    statement = find_pixels(row.checkpoint, context.name, video)
    if statement is not None:
        changes = {key: getattr(of_row.pixels, key) for key in overridden}
        return _Statistics(replace(statement.pixels, **changes), statement.file)
    if row.mean is None or row.std is None:
        raise ValueError(
            f"the checkpoint {row.checkpoint!r} of {context.name} has no preprocessor_config.json "
            "that states the mean and standard deviation of pixels; set "
            f"item.options.{context.name}.mean and .std, for example [0.5, 0.5, 0.5]"
        )
    return of_row
