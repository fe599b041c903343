"""Small folders of features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlrec.data.features.files import write_features
from mlrec.data.features.info import Maker
from mlrec.data.features.join import ItemIds

FINGERPRINT = "0" * 64


def item_ids(raw_ids: Sequence[str | None], fingerprint: str = FINGERPRINT) -> ItemIds:
    """Return a data set's items by raw id; None stands for one that packing left out."""
    return ItemIds(pa.array(raw_ids, pa.string()), "tiny", fingerprint)


def numbered(count: int) -> ItemIds:
    """Return items whose raw ids are their numbers, 1 ... count."""
    return item_ids([str(item) for item in range(1, count + 1)])


def save_features(
    folder: Path,
    raw_ids: Sequence[object],
    width: int = 4,
    checkpoint: str | None = "s3://weights/tiny",
    rows: tuple[str, ...] = (),
) -> np.ndarray:
    """Write random vectors as mlrec extract does, and return them.

    Args:
        rows: names of an item's vectors, in float16; empty for one vector in float32.
    """
    shape = (len(raw_ids), len(rows), width) if rows else (len(raw_ids), width)
    vectors = np.random.default_rng(0).normal(size=shape)
    vectors = vectors.astype(np.float16 if rows else np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    names = [str(raw_id) for raw_id in raw_ids]
    write_features(
        str(folder),
        pa.array(names, pa.string()),
        vectors,
        item_ids(names),
        Maker("video/tiny", checkpoint, rows),
    )
    return vectors
