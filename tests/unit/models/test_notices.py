"""Notices at the start of a run: random weights, and inputs that the data set lacks."""

from __future__ import annotations

import copy
from dataclasses import replace

import pyarrow as pa
from small_encoders import SMALL

from mlrec.config import ItemConfig
from mlrec.data.stream import Data
from mlrec.models.notices import notices
from mlrec.models.tower import ItemTower


def test_notices_of_a_tower_name_random_weights_repeated_frames_and_upscaled_images(
    data: Data,
) -> None:
    options = {"video/tiny": {"frames": 13, "size": 48}}
    tower = ItemTower(ItemConfig(("video/tiny", "id/embedding"), options), 16, data.catalogue.size)
    assert notices(tower, data) == [
        "video/tiny: starts from random weights",
        "video/tiny reads 13 frames, the data set has 5: frames repeat",
        "video/tiny reads 48 x 48 pixels, the data set has 32 x 32: images are upscaled",
    ]


def test_notices_of_a_tower_that_reads_fewer_frames_say_which(data: Data) -> None:
    tower = ItemTower(
        ItemConfig(("video/tiny",), {"video/tiny": {"frames": 3, "size": 32}}),
        16,
        data.catalogue.size,
    )
    line = "video/tiny reads 3 frames, the data set has 5: evenly spaced ones are read"
    assert line in notices(tower, data)


def test_notices_count_items_without_a_cover(data: Data) -> None:
    options = {"image/vit_mae": SMALL["image/vit_mae"] | {"checkpoint": "", "size": 32}}
    tower = ItemTower(ItemConfig(("image/vit_mae",), options), 16, data.catalogue.size)
    # some have no cover file, and the files of the others cannot be read
    counts = {**data.info.counts, "items_without_cover": 1000, "failed_covers": 500}
    data = replace(data, info=replace(data.info, counts=counts))
    assert (
        f"image/vit_mae: 1,500 of {data.catalogue.size:,} items have no cover and get a black image"
        in notices(tower, data)
    )


def test_notices_count_items_without_a_title(data: Data) -> None:
    titles = ["", "  ", None, *["a title"] * (data.catalogue.size - 3)]
    place = data.catalogue.table.column_names.index("title")
    catalogue = copy.copy(data.catalogue)
    catalogue.table = catalogue.table.set_column(place, "title", pa.array(titles, pa.string()))
    tower = ItemTower(
        ItemConfig(("text/bert_tiny",), {"text/bert_tiny": SMALL["text/bert_tiny"]}),
        16,
        data.catalogue.size,
    )
    lines = notices(tower, replace(data, catalogue=catalogue))
    assert (
        f"text/bert_tiny: 3 of {data.catalogue.size:,} items have no title and get an empty one"
        in lines
    )


def test_notices_of_ids_are_empty(data: Data) -> None:
    assert not notices(ItemTower(ItemConfig(("id/embedding",)), 16, data.catalogue.size), data)
