"""Times written as numbers whose digits are a date: YYYYMMDD or YYYYMMDDhhmmss."""

from __future__ import annotations

import numpy as np

from shards_tools.raw.pairs.packed import PIECE_ROWS

FIRST_DATE = 1970_01_01
LAST_DATE = 2100_12_31
SECONDS_PER_DAY = 24 * 60 * 60
_TIME_DIGITS = 10**6
"""Factor by which YYYYMMDDhhmmss is larger than its YYYYMMDD."""


def are_dates(values: np.ndarray) -> bool:
    """Return whether all numbers are dates of 1970 to 2100, with or without a time of day.

    Args:
        values: int64 or float64 [rows].
    """
    if values.dtype != np.int64 or not len(values):
        return False
    factor = _TIME_DIGITS if _has_times(values) else 1
    if values.min() < FIRST_DATE * factor or values.max() >= (LAST_DATE + 1) * factor:
        return False
    return all(_is_date(piece, factor).all() for piece in _pieces(values))


def to_seconds(values: np.ndarray) -> np.ndarray:
    """Return the seconds since 1970 of numbers that are dates, changed in place."""
    factor = _TIME_DIGITS if _has_times(values) else 1
    for piece in _pieces(values):
        seconds = _days(piece // factor).astype(np.int64) * SECONDS_PER_DAY
        if factor > 1:
            seconds += piece // 10_000 % 100 * 3600 + piece // 100 % 100 * 60 + piece % 100
        piece[:] = seconds
    return values


def _has_times(values: np.ndarray) -> bool:
    return bool(values.max() > LAST_DATE)


def _pieces(values: np.ndarray) -> list[np.ndarray]:
    """Return views of the values, so that a billion of them take little further memory."""
    return [values[start : start + PIECE_ROWS] for start in range(0, len(values), PIECE_ROWS)]


def _is_date(values: np.ndarray, factor: int) -> np.ndarray:
    """Return which numbers are dates: bool [rows]."""
    dates = values // factor
    months = dates // 100 % 100
    is_date = (months >= 1) & (months <= 12) & (dates % 100 >= 1)
    # 31 June would be a day of July
    days = _days(dates)
    is_date &= days.astype("datetime64[M]") == _months(dates)
    if factor > 1:
        times = values % _TIME_DIGITS
        is_date &= (times < 24_00_00) & (times // 100 % 100 < 60) & (times % 100 < 60)
    return is_date


def _days(dates: np.ndarray) -> np.ndarray:
    """Return the days of YYYYMMDD: datetime64[D] [rows]."""
    days: np.ndarray = _months(dates).astype("datetime64[D]") + (dates % 100 - 1)
    return days


def _months(dates: np.ndarray) -> np.ndarray:
    """Return the months of YYYYMMDD: datetime64[M] [rows]."""
    months: np.ndarray = (dates // 10_000 - 1970) * 12 + dates // 100 % 100 - 1
    return months.astype("datetime64[M]")
