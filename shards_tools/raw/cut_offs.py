"""Cut-offs of a split by time: dates or numbers from the command line, or quantiles of the data."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from mlrec.data.format import SPLITS, SplitInfo
from mlrec.data.format.splits import MIN_TRAIN_ITEMS, TimeUnit, time_in_words
from mlrec.data.spacing import evenly_spaced
from shards_tools.raw.pairs.times import to_milliseconds
from shards_tools.raw.split import Sequences, cuts_of

TRAIN_SHARE = 0.8
"""Share of the interactions before the first cut-off, by default."""
TRAIN_AND_VALIDATION_SHARE = 0.9
"""Share of the interactions before the second cut-off, by default."""
MAX_SAMPLED_TIMES = 1 << 20
"""Times that quantiles are taken of. All times of a large log would be copied to be sorted."""

_WHOLE_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)


class CutOffs(NamedTuple):
    """Times at which a log is cut, in the unit of its times."""

    validation_from: int
    test_from: int
    unit: TimeUnit


def find_cut_offs(
    sequences: Sequences, unit: TimeUnit, validation_from: str, test_from: str, where: str
) -> CutOffs:
    """Return the cut-offs of a split by time.

    Args:
        unit: Unit of the sequences' times.
        validation_from: ISO date, in UTC unless it has a zone, or a number; "" for the quantile of
            TRAIN_SHARE.
        test_from: likewise; "" for the quantile of TRAIN_AND_VALIDATION_SHARE.
        where: the interactions, for messages.

    Raises:
        ValueError: the interactions have no times, or a date is given but the times are no dates.
    """
    times = sequences.times
    if times is None:
        raise ValueError(
            f"Cannot split {where} by time: its interactions have no times. "
            "Give each a time, or use --split leave_one_out"
        )
    # ascending, so that a quantile is an entry
    sample = np.sort(times[evenly_spaced(len(times), MAX_SAMPLED_TIMES)])
    requested = {
        "--validation-from": (validation_from, TRAIN_SHARE),
        "--test-from": (test_from, TRAIN_AND_VALIDATION_SHARE),
    }
    cut_offs = []
    for flag, (text, share) in requested.items():
        if not text:
            cut_offs.append(int(sample[int(share * len(sample))]))
        elif _WHOLE_NUMBER.fullmatch(text):
            cut_offs.append(_number(flag, int(text), unit, where))
        elif unit == "milliseconds":
            cut_offs.append(_milliseconds(text))
        else:
            raise ValueError(
                f"Cannot split {where} at {flag} {text}: the times are no dates but numbers. "
                f"{time_range(sequences, unit)}. Give a number"
            )
    return CutOffs(cut_offs[0], cut_offs[1], unit)


def _number(flag: str, number: int, unit: TimeUnit, where: str) -> int:
    """Return a cut-off that is given as a number, in the unit of the data set's times.

    Raises:
        ValueError: the times are dates, and the number is no time since 1970.
    """
    if unit != "milliseconds":
        return number
    # raw times may be seconds, as which users know them; the data set has them in milliseconds
    milliseconds = to_milliseconds(number)
    if milliseconds is None:
        raise ValueError(
            f"Cannot split {where} at {flag} {number}: it is no time in seconds or milliseconds "
            "since 1970. Give one, or a date such as 2023-07-01"
        )
    return milliseconds


def check_cut_off(flag: str, text: str) -> None:
    """Check that a cut-off is a date or a number.

    Raises:
        ValueError: it is neither.
    """
    if _WHOLE_NUMBER.fullmatch(text):
        return
    try:
        _milliseconds(text)
    except ValueError as error:
        raise ValueError(
            f"{flag} is {text!r}. Give a date such as 2023-07-01, or a time as in the interactions"
        ) from error


def _milliseconds(text: str) -> int:
    """Return an ISO date in milliseconds since 1970.

    Raises:
        ValueError: the text is no date.
    """
    date = datetime.fromisoformat(text)
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return (date - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def time_range(sequences: Sequences, unit: TimeUnit) -> str:
    """Return a sentence about the first and the last time, without its full stop."""
    assert sequences.times is not None
    first = time_in_words(int(sequences.times.min()), unit)
    last = time_in_words(int(sequences.times.max()), unit)
    return f"The times go from {first} to {last}"


def check_split(sequences: Sequences, split: SplitInfo, where: str) -> None:
    """Check that a split leaves something to train on and users to rank.

    Raises:
        ValueError: it does not.
    """
    # Leave-one-out has all of it in every user.
    if split.kind == "leave_one_out":
        return
    cuts = cuts_of(sequences, split)
    missing = ""
    if not cuts.is_trained().any():
        missing = f"no user has {MIN_TRAIN_ITEMS} interactions before validation begins"
    for name in SPLITS:
        if not missing and not cuts.has_target(name).any():
            missing = f"no user has a {name} target with earlier interactions"
    if missing:
        raise ValueError(
            f"Cannot split {where} by time, {split.cut_offs_in_words()}: {missing}. "
            f"{time_range(sequences, split.time_unit)}. "
            "Choose other cut-offs with --validation-from and --test-from"
        )
