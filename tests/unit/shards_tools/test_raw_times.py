"""Times of interactions: units, dates, fractions, and an order that never changes."""

import numpy as np
import pyarrow as pa
import pytest

from shards_tools.raw.pairs.times import StoredTimes, TimeParser

SECOND = 1_688_169_600
"""2023-07-01 in seconds since 1970."""


def stored(*columns: pa.Array) -> StoredTimes:
    """Return the stored times of blocks of valid times."""
    parser = TimeParser("x.csv")
    blocks = []
    for column in columns:
        parsed = parser.parse(column)
        assert parsed.is_valid.all()
        blocks.append(parsed.values)
    return parser.store(np.concatenate(blocks))


@pytest.mark.parametrize(
    "texts",
    [
        [f"{SECOND}", f"{SECOND + 1}"],
        [f"{SECOND}.0", f" {SECOND + 1}"],
        ["1.6881696e9", f"{SECOND + 1}"],
        [f"{SECOND}000", f"{SECOND + 1}000"],
        [f"{SECOND}000999", f"{SECOND + 1}000000"],
        [f"{SECOND}000000999", f"{SECOND + 1}000000000"],
        ["2023-07-01", "2023-07-01 00:00:01"],
        ["2023-07-01T00:00", "2023-07-01T00:00:01.000"],
        ["2023-07-01T00:00:00Z", "2023-07-01T02:00:01+02:00"],
        ["2023-07-01 02:00:00+0200", "2023-07-01 00:00:01Z"],
    ],
)
def test_time_parser_units_and_dates_become_milliseconds(texts: list[str]) -> None:
    times = stored(pa.array(texts))
    assert times.values.tolist() == [SECOND * 1000, SECOND * 1000 + 1000]
    assert (times.values.dtype, times.unit) == (np.int64, "milliseconds")


@pytest.mark.parametrize("texts", [["20230701", "20230702"], ["20230701000000", "20230702000000"]])
def test_time_parser_numbers_that_are_dates_become_milliseconds(texts: list[str]) -> None:
    times = stored(pa.array(texts))
    assert times.values.tolist() == [SECOND * 1000, (SECOND + 86_400) * 1000]
    assert times.unit == "milliseconds"
    assert times.remarks == [f"x.csv: the times, such as {texts[0]}, were read as dates in UTC"]


def test_time_parser_numbers_that_are_dates_keep_the_time_of_day() -> None:
    times = stored(pa.array(["20230701235958", "20240229000001"]))
    assert times.values.tolist() == [1_688_255_998_000, 1_709_164_801_000]


@pytest.mark.parametrize(
    "texts",
    [
        # no such month, day or minute
        ["20231301", "20230701"],
        ["20230631", "20230701"],
        ["20230701006000"],
        ["20230701000000", "20230701"],
        # the years 1969, 2610 in milliseconds and 2101 in seconds
        ["19691231"],
        ["20200132000000"],
        [f"{SECOND}", "4133980800"],
    ],
)
def test_time_parser_numbers_that_are_no_usual_times_stay_and_are_said(texts: list[str]) -> None:
    times = stored(pa.array(texts))
    assert (times.values.tolist(), times.unit) == ([int(text) for text in texts], "unknown")
    assert "was not recognized" in times.remarks[0]


def test_time_parser_fractions_of_seconds_are_kept() -> None:
    times = stored(pa.array([f"{SECOND}.123", f"{SECOND}.124"]), pa.array([f"{SECOND + 1}"]))
    assert times.values.tolist() == [SECOND * 1000 + 123, SECOND * 1000 + 124, SECOND * 1000 + 1000]


def test_time_parser_counters_stay_and_are_said() -> None:
    times = stored(pa.array(["7", "-3"]), pa.array(["0"]))
    assert (times.values.tolist(), times.unit) == ([7, -3, 0], "unknown")
    assert "unit of the times, such as 7, was not recognized" in times.remarks[0]


def test_time_parser_dates_without_zone_are_said() -> None:
    assert stored(pa.array(["2023-07-01"])).remarks == [
        "x.csv: the times have no time zone, and are taken for UTC"
    ]
    assert not stored(pa.array(["2023-07-01T00:00:00Z"])).remarks
    days = stored(pa.array(["2023-07-01"]).cast(pa.date32()))
    assert days.values.tolist() == [SECOND * 1000]


def test_time_parser_dates_before_1973_are_dates() -> None:
    assert stored(pa.array(["1969-12-31T23:59:59Z"])).values.tolist() == [-1000]


def test_time_parser_impossible_times_are_not_valid() -> None:
    texts = ["2023-02-30", "2023-02-28", "yesterday", "", "2023-13-01", "99999999999999999999"]
    parsed = TimeParser("x.csv").parse(pa.array(texts[:5]))
    assert parsed.is_valid.tolist() == [False, True, False, False, False]
    parsed = TimeParser("x.csv").parse(pa.array(["inf", "1e99", "nan", "5", *texts[5:]]))
    assert parsed.is_valid.tolist() == [False, False, False, True, False]
    parsed = TimeParser("x.csv").parse(pa.array([float("nan"), float("inf"), 5.0, None]))
    assert parsed.is_valid.tolist() == [False, False, True, False]


def test_time_parser_several_units_raise() -> None:
    with pytest.raises(ValueError, match=f"{SECOND} looks like seconds, {SECOND}000 like milli"):
        stored(pa.array([f"{SECOND}", f"{SECOND}000"]))
    with pytest.raises(ValueError, match="some times are numbers, others dates"):
        stored(pa.array([f"{SECOND}"]), pa.array(["2023-07-01"]))


def test_time_parser_store_never_reorders() -> None:
    rng = np.random.default_rng(0)
    for unit in (1, 10**3, 10**6, 10**9):
        for values in (
            rng.integers(SECOND, SECOND + 100, 1000) * unit,
            rng.uniform(SECOND, SECOND + 1, 1000) * unit,
        ):
            values = np.sort(values)
            parser = TimeParser("x.csv")
            parser.parse(pa.array(["1"]))
            assert (np.diff(parser.store(values.copy()).values) >= 0).all()
