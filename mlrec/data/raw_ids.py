"""Spellings of raw ids: one id may be written differently in tables and in names of files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from heapq import nsmallest

import pyarrow as pa
import pyarrow.compute as pc

_WHOLE_FLOAT = re.compile(r"(-?[0-9]+)\.0+")
"""A whole number as spreadsheets and pandas write it in a column with gaps, such as 17.0."""


def normalize_id(text: str) -> str:
    """Return the usual spelling of an id: without spaces around it, in Unicode NFC, 17.0 as 17."""
    # file systems of macOS store NFD, in which an accent is a character of its own
    text = unicodedata.normalize("NFC", text.strip())
    whole = _WHOLE_FLOAT.fullmatch(text)
    return whole[1] if whole else text


def normalize_ids(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Return `normalize_id` of each text."""
    normal = pc.utf8_normalize(pc.utf8_trim_whitespace(texts), form="NFC")
    return pc.replace_substring_regex(normal, f"^{_WHOLE_FLOAT.pattern}$", r"\1")


class IdMatcher:
    """Raw ids of a data set, matched with the spellings of other tables and of file names."""

    def __init__(self, raw_ids: Iterable[str]) -> None:
        """Take the raw ids, which `normalize_id` leaves unchanged."""
        self._raw_ids = set(raw_ids)
        self._id_of_number: dict[int, str | None] = {}
        """Raw id by its whole number; None where several raw ids have the same number."""
        for raw_id in self._raw_ids:
            number = _number_of(raw_id)
            if number is not None:
                is_taken = number in self._id_of_number
                self._id_of_number[number] = None if is_taken else raw_id

    def __len__(self) -> int:
        return len(self._raw_ids)

    def examples(self, count: int = 3) -> list[str]:
        """Return the first raw ids in alphabetic order."""
        return nsmallest(count, self._raw_ids)

    def match(self, text: str) -> str | None:
        """Return the raw id that `text` spells; None if there is none.

        A number with leading zeros, such as 00017, spells 17 where no other raw id does.
        """
        # most texts, and millions of them
        if text in self._raw_ids:
            return text
        raw_id = normalize_id(text)
        if raw_id in self._raw_ids:
            return raw_id
        number = _number_of(raw_id)
        return None if number is None else self._id_of_number.get(number)


def _number_of(raw_id: str) -> int | None:
    # isdecimal alone would accept the digits of other scripts
    return int(raw_id) if raw_id.isascii() and raw_id.isdecimal() and len(raw_id) < 19 else None
