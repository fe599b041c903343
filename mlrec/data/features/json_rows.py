"""Vectors as JSON: {"raw id": [numbers], ...}, or a list of {"raw_id": ..., "vector": [...]}.

MicroLens publishes files of several hundred megabytes. They are parsed one vector at a time: as
Python objects, all numbers together would take eight times the memory of the array.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlrec.data.features.arrays import stacked
from mlrec.data.features.vectors import Rows

_MAX_DIGITS = 1000
"""Largest number of digits of a whole number; Python itself refuses far longer ones."""


def _whole_number(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it has a number of {len(digits):,} digits, which are too many")
    return int(digits)


_DECODER = json.JSONDecoder(parse_int=_whole_number)
_SPACE = re.compile(r"[ \t\r\n]*")
_KEYS = {"raw_id", "vector"}


def read_json_rows(content: bytes, name: str) -> Rows:
    """Return the rows of a JSON document.

    Raises:
        ValueError: it is no such document; the message has no full stop.
    """
    del name  # the document has one vector per raw id
    text = content.decode("utf-8-sig")
    raw_ids = []
    vectors = []
    try:
        for raw_id, vector in _entries(text):
            # bool is a kind of int
            if not isinstance(raw_id, str | int) or isinstance(raw_id, bool):
                raise ValueError(f"the raw id {raw_id!r} is neither text nor a whole number")
            raw_ids.append(str(raw_id))
            vectors.append(_vector_of(vector, str(raw_id)))
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
    return Rows(pa.array(raw_ids, pa.string()), stacked(raw_ids, vectors))


def _vector_of(values: Any, raw_id: str) -> np.ndarray:
    """Return a list of numbers as a float32 array.

    Raises:
        ValueError: it is no such list.
    """
    is_list = isinstance(values, list)
    # type, not isinstance: a boolean is a kind of int
    if not is_list or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"the vector of {raw_id[:40]!r} is no list of numbers")
    try:
        # Values beyond float32 become infinite, which a later check reports.
        with np.errstate(over="ignore"):
            return np.array(values, np.float64).astype(np.float32)
    except OverflowError as error:
        raise ValueError(
            f"the vector of {raw_id[:40]!r} has a number of too many digits"
        ) from error


def _entries(text: str) -> Iterator[tuple[Any, Any]]:
    """Yield the raw id and the vector of each entry of a document.

    Raises:
        ValueError: it is no document of this kind.
    """
    at = _skip_space(text, 0)
    opening = text[at : at + 1]
    closing = {"{": "}", "[": "]"}.get(opening)
    if closing is None:
        raise ValueError("neither an object of vectors by raw id nor a list of them")
    at += 1
    is_first = True
    while not _ends(text, at, closing):
        if not is_first:
            at = _after(text, at, ",")
        is_first = False
        entry = _decode(text, at)
        if opening == "[":
            yield _pair(entry.value)
        else:
            raw_id = entry.value
            entry = _decode(text, _after(text, entry.end, ":"))
            yield raw_id, entry.value
        at = entry.end


def _pair(element: Any) -> tuple[Any, Any]:
    """Return the raw id and the vector of an element of a list.

    Raises:
        ValueError: it lacks one of them, or has more.
    """
    if not isinstance(element, dict) or set(element) != _KEYS:
        raise ValueError('a list whose elements are not {"raw_id": ..., "vector": [...]}')
    return element["raw_id"], element["vector"]


class _Decoded(NamedTuple):
    value: Any
    end: int
    """Position after the value."""


def _decode(text: str, at: int) -> _Decoded:
    return _Decoded(*_DECODER.raw_decode(text, _skip_space(text, at)))


def _ends(text: str, at: int, bracket: str) -> bool:
    """Return whether the document ends with `bracket` here.

    Raises:
        ValueError: more text follows the bracket.
    """
    at = _skip_space(text, at)
    if text[at : at + 1] != bracket:
        return False
    if _skip_space(text, at + 1) != len(text):
        raise ValueError(f"more text follows its end at character {at + 1:,}")
    return True


def _after(text: str, at: int, mark: str) -> int:
    """Return the position after a mark.

    Raises:
        ValueError: it is not there.
    """
    at = _skip_space(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"{mark!r} is missing at character {at:,}")
    return at + 1


def _skip_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space is not None
    return space.end()
