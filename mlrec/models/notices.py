"""What users should know when a run starts: weights that are random, and inputs that the data set does not have."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc

from mlrec.data.format import MediaInfo
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import Data
from mlrec.models.tower import ItemTower

_STAND_INS = {
    Modality.COVER: ("failed_covers", "have no cover and get a black one"),
    Modality.AUDIO: ("failed_audio", "have no audio and get silence"),
}


def notices(tower: ItemTower, data: Data) -> list[str]:
    """Return one sentence per finding, without a full stop; they are printed at startup and by --dry-run."""
    lines = []
    if tower.random_encoders:
        names = ", ".join(tower.random_encoders)
        lines.append(
            f"{names}: starts from random weights"
            if len(tower.random_encoders) == 1
            else f"random weights: {names}"
        )
    for name, encoder, spec in zip(tower.names, tower.encoders, tower.specs, strict=True):
        lines += encoder.remarks  # type: ignore[arg-type]
        lines += _of_media(name, spec, data.info.media)
        lines += _of_items(name, spec, data)
    return list(dict.fromkeys(lines))


def _of_media(encoder: str, spec: InputSpec, media: MediaInfo) -> Iterator[str]:
    """What every video and image of the data set lacks."""
    if spec.modality is Modality.VIDEO and media.kind == "frames" and spec.frames > media.frames:
        yield f"{encoder} reads {spec.frames} frames, the data set has {media.frames}: frames repeat"
    if spec.modality in (Modality.VIDEO, Modality.COVER) and spec.size > media.size:
        yield (
            f"{encoder} reads {spec.size} x {spec.size} pixels, the data set has {media.size} x {media.size}: images are upscaled"
        )


def _of_items(encoder: str, spec: InputSpec, data: Data) -> Iterator[str]:
    """How many items lack the input."""
    total = data.catalogue.size
    if spec.modality in _STAND_INS:
        key, words = _STAND_INS[spec.modality]
        if count := data.info.counts.get(key, 0):
            yield f"{encoder}: {count:,} of {total:,} items {words}"
    if spec.modality is Modality.TITLE:
        lengths = pc.utf8_length(
            pc.utf8_trim_whitespace(pc.fill_null(data.catalogue.table["title"], ""))
        )
        if count := pc.sum(pc.equal(lengths, 0)).as_py() or 0:
            yield f"{encoder}: {count:,} of {total:,} items have no title and get an empty one"
