"""Times of interactions: epoch seconds to nanoseconds, dates, or counters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.format.splits import TimeUnit
from shards_tools.raw.pairs.calendar_numbers import are_dates, to_seconds
from shards_tools.raw.pairs.packed import flags

TICKS_PER_SECOND = {
    "seconds": 1,
    "milliseconds": 10**3,
    "microseconds": 10**6,
    "nanoseconds": 10**9,
}
MAX_TIME = 9 * 10**18
"""Times above this, which int64 does not hold, are not valid."""
FIRST_TICK = {
    "seconds": 10**8,
    "milliseconds": 10**11,
    "microseconds": 10**14,
    "nanoseconds": 10**17,
}
"""Least time of each unit, which is in 1973; the next unit's least is in the year 5138."""
END_SECOND = 4_133_980_800
"""2101-01-01 in seconds since 1970. Later times are not in the unit that their size suggests."""

TIME_FORMS = "seconds, milliseconds, or dates such as 2020-06-30 or 2020-06-30T12:00:00Z"
"""The forms of times that are read, for messages."""

_WHOLE = r"^-?[0-9]{1,19}$"
_NUMBER = r"^-?[0-9]{1,19}(\.[0-9]*)?([eE][-+]?[0-9]{1,2})?$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?"
_ZONE = r"(Z|[-+][0-9]{2}(:?[0-9]{2})?)"
_DATES = pa.timestamp("us")
_ZONED_DATES = pa.timestamp("us", "UTC")


class ParsedTimes(NamedTuple):
    """Times of a block of rows."""

    values: np.ndarray
    """int64 or float64 [rows]: numbers as they stand, and dates as microseconds since 1970."""
    is_valid: np.ndarray
    """bool [rows]. Other rows have the value 0."""


class StoredTimes(NamedTuple):
    """Times as a data set stores them."""

    values: np.ndarray
    """int64 [rows]."""
    unit: TimeUnit
    remarks: list[str]


class TimeParser:
    """Parses the times of a file, block by block."""

    def __init__(self, name: str) -> None:
        """Take the name of the file, for messages."""
        self._name = name
        self._has_numbers = False
        self._has_dates = False
        self._lacks_zones = False

    def parse(self, column: pa.Array) -> ParsedTimes:
        """Return the times of further rows.

        Args:
            column: Strings, numbers, dates or timestamps.

        Raises:
            ValueError: some times of the file are numbers, others dates.
        """
        if pa.types.is_temporal(column.type):
            parsed = self._parse_timestamps(column)
        elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            self._has_numbers = True
            parsed = _parse_numbers(column)
        else:
            parsed = self._parse_strings(column)
        if self._has_numbers and self._has_dates:
            raise ValueError(
                f"{self._name}: some times are numbers, others dates. Write all of them alike"
            )
        return parsed

    def _parse_timestamps(self, column: pa.Array) -> ParsedTimes:
        self._has_dates = True
        self._lacks_zones |= getattr(column.type, "tz", None) is None
        # days become timestamps, and nanoseconds are cut off
        return _parse_numbers(column.cast(_DATES, safe=False).cast(pa.int64()))

    def _parse_strings(self, column: pa.Array) -> ParsedTimes:
        try:
            # nearly all files have whole numbers without spaces around them
            values = column.cast(pa.int64())
        except pa.ArrowInvalid:
            return self._parse_texts(pc.utf8_trim_whitespace(column))
        self._has_numbers = True
        return _parse_numbers(values)

    def _parse_texts(self, texts: pa.Array) -> ParsedTimes:
        is_whole = _matches(texts, _WHOLE)
        is_fraction = _matches(texts, _NUMBER) & ~is_whole
        is_date = _matches(texts, _DATE + "$")
        is_zoned = _matches(texts, _DATE + _ZONE + "$")
        self._has_numbers |= bool((is_whole | is_fraction).any())
        self._has_dates |= bool((is_date | is_zoned).any())
        self._lacks_zones |= bool(is_date.any())
        parsed = ParsedTimes(
            np.zeros(len(texts), np.float64 if is_fraction.any() else np.int64),
            np.zeros(len(texts), bool),
        )
        _fill(parsed, texts, is_whole, pa.int64())
        _fill(parsed, texts, is_fraction, pa.float64())
        _fill(parsed, texts, is_date, _DATES)
        _fill(parsed, texts, is_zoned, _ZONED_DATES)
        return _as_whole(parsed)

    def store(self, values: np.ndarray) -> StoredTimes:
        """Return all times of the file as they are stored. The order of two never changes.

        Args:
            values: int64 or float64 [rows], changed in place.

        Raises:
            ValueError: the times have several units.
        """
        remarks = []
        unit: str | None = "microseconds"
        if self._lacks_zones:
            remarks.append(f"{self._name}: the times have no time zone, and are taken for UTC")
        if self._has_numbers and are_dates(values):
            remarks.append(
                f"{self._name}: the times, such as {values[0]}, were read as dates in UTC"
            )
            values = to_seconds(values)
            unit = "seconds"
        elif self._has_numbers:
            unit = _unit_of(values, self._name)
        if unit is None and len(values):
            remarks.append(
                f"{self._name}: the unit of the times, such as {values.max()}, was not recognized; "
                "they are stored as they stand"
            )
        if unit is None:
            return StoredTimes(_whole(values), "unknown", remarks)
        return StoredTimes(_milliseconds(values, unit), "milliseconds", remarks)


def _unit_of(values: np.ndarray, name: str) -> str | None:
    """Return the unit of times by their size; None for counters and the like.

    Raises:
        ValueError: the times have several units.
    """
    if not len(values):
        return None
    least = _unit_of_number(values.min())
    greatest = _unit_of_number(values.max())
    if least is not None and greatest is not None and least != greatest:
        raise ValueError(
            f"{name}: the times have several units: {values.min()} looks like {least}, "
            f"{values.max()} like {greatest}. Write all of them in one unit"
        )
    return None if greatest is None else least


def to_milliseconds(time: int) -> int | None:
    """Return a time since 1970 in milliseconds; None if its size is not that of such a time."""
    unit = _unit_of_number(time)
    return None if unit is None else time * 1000 // TICKS_PER_SECOND[unit]


def _unit_of_number(time: float) -> str | None:
    for unit, first in FIRST_TICK.items():
        if first <= time < END_SECOND * TICKS_PER_SECOND[unit]:
            return unit
    return None


def _milliseconds(values: np.ndarray, unit: str) -> np.ndarray:
    """Return the times in milliseconds."""
    per_second = TICKS_PER_SECOND[unit]
    if values.dtype != np.int64:
        # fractions of a second are kept, as far as milliseconds have them
        values *= 1000 / per_second
        return _whole(values)
    if per_second < 1000:
        values *= 1000 // per_second
    elif per_second > 1000:
        values //= per_second // 1000
    return values


def _whole(values: np.ndarray) -> np.ndarray:
    """Return the times rounded to int64."""
    if values.dtype == np.int64:
        return values
    rounded: np.ndarray = np.rint(values, out=values)
    return rounded.astype(np.int64)


def _parse_numbers(column: pa.Array) -> ParsedTimes:
    """Return times that are numbers; those that are null, infinite or too large are not valid."""
    is_valid = flags(column.is_valid())
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        is_valid &= np.abs(values) < MAX_TIME
        return _as_whole(ParsedTimes(np.where(is_valid, values, 0), is_valid))
    values = column.cast(pa.int64(), safe=False).fill_null(0).to_numpy()
    return ParsedTimes(values, is_valid)


def _as_whole(times: ParsedTimes) -> ParsedTimes:
    """Return the times as int64 if they are whole, as in most files that write 17.0 or 1.7e1."""
    if np.any(times.values % 1):
        return times
    return times._replace(values=times.values.astype(np.int64))


def _matches(texts: pa.Array, pattern: str) -> np.ndarray:
    """Return which texts match: bool [texts]."""
    return flags(pc.match_substring_regex(texts, pattern))


def _fill(parsed: ParsedTimes, texts: pa.Array, is_chosen: np.ndarray, dtype: pa.DataType) -> None:
    """Parse the chosen texts, which look like `dtype`."""
    _fill_rows(parsed, texts, np.flatnonzero(is_chosen), dtype)


def _fill_rows(parsed: ParsedTimes, texts: pa.Array, rows: np.ndarray, dtype: pa.DataType) -> None:
    try:
        times = texts.take(pa.array(rows)).cast(dtype)
    except pa.ArrowInvalid:
        # Such as 30 February: halves are parsed until it stands alone.
        if len(rows) > 1:
            half = len(rows) // 2
            _fill_rows(parsed, texts, rows[:half], dtype)
            _fill_rows(parsed, texts, rows[half:], dtype)
        return
    numbers = times.cast(pa.int64()) if pa.types.is_temporal(dtype) else times
    parsed.values[rows], parsed.is_valid[rows] = _parse_numbers(numbers)
