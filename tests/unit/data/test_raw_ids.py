"""Spellings of raw ids."""

import pytest

from mlrec.data.raw_ids import IdMatcher, normalize_id


@pytest.mark.parametrize(
    ("text", "raw_id"),
    [
        (" 17 ", "17"),
        ("17.0", "17"),
        ("17.00", "17"),
        ("-3.0", "-3"),
        ("17.5", "17.5"),
        ("1.0.0", "1.0.0"),
        ("00017", "00017"),
        ("cafe\u0301", "caf\u00e9"),
        ("", ""),
    ],
)
def test_normalize_id_returns_usual_spelling(text, raw_id):
    assert normalize_id(text) == raw_id


@pytest.mark.parametrize(
    ("text", "raw_id"),
    [
        ("17", "17"),
        ("17.0", "17"),
        ("00017", "17"),
        ("cafe\u0301", "caf\u00e9"),
        ("07", "07"),
        ("7", "7"),
        # 7 and 07 are two ids, so that 007 may be either
        ("007", None),
        ("18", None),
        # the digits of another script
        ("\u0661\u0667", None),
    ],
)
def test_id_matcher_matches_other_spellings(text, raw_id):
    assert IdMatcher(["17", "7", "07", "caf\u00e9"]).match(text) == raw_id
