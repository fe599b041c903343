"""Notices at the start of a run: random weights, and inputs that the data set lacks."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc

from mlrec.data.format import MediaInfo
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import Data
from mlrec.models.tower import ItemTower

_MISSING_MEDIA = {
    Modality.COVER: (
        ("items_without_cover", "failed_covers"),
        "have no cover and get a black image",
    ),
    Modality.AUDIO: (
        ("items_without_audio", "failed_audio"),
        "have no audio and get silence",
    ),
}
"""Keys of the data set's counts of items without the media, and what such items get."""


def notices(tower: ItemTower, data: Data) -> list[str]:
    """Return one sentence per notice, without a full stop, to print at startup and by --dry-run."""
    lines = []
    if tower.random_encoders:
        names = ", ".join(tower.random_encoders)
        if len(tower.random_encoders) == 1:
            lines.append(f"{names}: starts from random weights")
        else:
            lines.append(f"random weights: {names}")
    for name, encoder, spec in zip(tower.names, tower.encoders, tower.specs, strict=True):
        lines += encoder.remarks  # type: ignore[arg-type]
        lines += _media_notices(name, spec, data.info.media)
        lines += _item_notices(name, spec, data)
    # encoders may share a remark
    return list(dict.fromkeys(lines))


def _media_notices(encoder: str, spec: InputSpec, media: MediaInfo) -> Iterator[str]:
    """Yield what all videos or images of the data set lack."""
    # how many frames a clip has is known only when it is decoded
    if spec.modality is Modality.VIDEO and media.kind == "frames" and spec.frames != media.frames:
        what = "frames repeat" if spec.frames > media.frames else "evenly spaced ones are read"
        yield f"{encoder} reads {spec.frames} frames, the data set has {media.frames}: {what}"
    if spec.modality in (Modality.VIDEO, Modality.COVER) and spec.size > media.size:
        yield (
            f"{encoder} reads {spec.size} x {spec.size} pixels, the data set has "
            f"{media.size} x {media.size}: images are upscaled"
        )


def _item_notices(encoder: str, spec: InputSpec, data: Data) -> Iterator[str]:
    """Yield how many items lack the input."""
    total = data.catalogue.size
    if spec.modality in _MISSING_MEDIA:
        keys, words = _MISSING_MEDIA[spec.modality]
        count = sum(data.info.counts.get(key, 0) for key in keys)
        if count:
            yield f"{encoder}: {count:,} of {total:,} items {words}"
    if spec.modality is Modality.TITLE:
        titles = pc.fill_null(data.catalogue.table["title"], "")
        lengths = pc.utf8_length(pc.utf8_trim_whitespace(titles))
        # the sum over no items is null
        if count := pc.sum(pc.equal(lengths, 0)).as_py() or 0:
            yield f"{encoder}: {count:,} of {total:,} items have no title and get an empty one"
