"""The noun for what the encoders of a run read."""

from __future__ import annotations

from collections.abc import Iterable

_NOUNS = {"video": "video", "text": "title", "image": "cover", "audio": "sound track"}


def item_unit(encoders: Iterable[str]) -> str:
    """Return what the speed of a run counts, in the singular: "video", "title", ...

    It is "item" for ids, features and encoders of several kinds.

    Args:
        encoders: rows of mlrec list encoders.
    """
    kinds = {encoder.partition("/")[0] for encoder in encoders}
    return _NOUNS.get(kinds.pop(), "item") if len(kinds) == 1 else "item"
