"""Whole numbers that users or items have: their quantiles and histograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mlrec.data.format import Catalogue
from mlrec.report.page import Drawing
from mlrec.report.svg import histogram
from shards_tools.show.facts import quantiles

MAX_UNIT_BINS = 24
"""Largest range of values for which each value has a bin of its own."""
MIN_KILOBYTES = 10_000
"""Median size of items (bytes) from which sizes are in kB."""


@dataclass(frozen=True)
class Measure:
    """A whole number that each user or item has."""

    name: str
    unit: str
    values: np.ndarray
    title: str = ""
    """Title of the histogram."""

    @property
    def cells(self) -> list[str]:
        """QUANTILES of the values, for the table."""
        return [f"{value:,}" for value in quantiles(self.values).values()]

    def histogram(self) -> Drawing:
        """Draw how often the values occur."""
        return histogram(*binned(self.values), self.title, self.unit)


def measures_of(catalogue: Catalogue, readable: np.ndarray, lengths: np.ndarray) -> list[Measure]:
    """Return what users and items have.

    Args:
        readable: int64, ids of the packed items.
        lengths: int64 [users], interactions of each user.
    """
    titles = np.asarray([len(catalogue.title(item)) for item in readable.tolist()])
    sizes = catalogue.bytes_of(readable)
    unit = "bytes"
    if len(sizes) and np.median(sizes) >= MIN_KILOBYTES:
        unit = "kB"
        # whole numbers, because bins are of whole numbers
        sizes = sizes // 1000
    popularity = catalogue.popularity_N1[readable]
    return [
        Measure("history length", "interactions", lengths, "Users by the length of their history"),
        Measure("item popularity", "training interactions", popularity, "Items by popularity"),
        Measure("title length", "characters", titles, "Items by the length of their title"),
        Measure("item size", unit, sizes, "Items by size"),
    ]


class Bins(NamedTuple):
    """A histogram without empty bins at its ends."""

    labels: list[str]
    """Values of each bin."""
    counts: list[int]
    """Number of values in each bin."""


def binned(values: np.ndarray) -> Bins:
    """Return the histogram of whole numbers of 0 or more.

    In a small range each number has a bin. Otherwise the widths grow: 0, 1, 2-4, 5-9, 10-19, ...
    """
    if not len(values):
        return Bins([], [])
    low = int(values.min())
    high = int(values.max())
    if high - low < MAX_UNIT_BINS:
        labels = [str(number) for number in range(low, high + 1)]
        return Bins(labels, np.bincount(values - low).tolist())
    starts = _growing_starts(high)
    # right: a value that equals a start belongs to the bin that begins there
    bins = np.searchsorted(starts, values, side="right") - 1
    counts = np.bincount(bins, minlength=len(starts)).tolist()
    first = int(bins.min())
    last = int(bins.max())
    labels = []
    for place in range(first, last + 1):
        labels.append(_range_label(starts[place], starts[place + 1] - 1))
    return Bins(labels, counts[first : last + 1])


def _growing_starts(high: int) -> list[int]:
    """Return the starts 0, 1, 2, 5, 10, 20, ... of bins up to that of `high`, and one more."""
    starts = [0]
    # one power more than needed, so that the last bin has an end
    for power in range(len(str(high)) + 1):
        for digit in (1, 2, 5):
            starts.append(digit * 10**power)
    return starts


def _range_label(low: int, high: int) -> str:
    return _short(low) if low == high else f"{_short(low)}-{_short(high)}"


def _short(number: int) -> str:
    return f"{number / 1000:.0f}k" if number >= 1000 else str(number)
