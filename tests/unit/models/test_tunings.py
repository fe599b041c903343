"""The table of tunings."""

from typing import get_args

from mlrec.config.encoder_options import Tuning
from mlrec.models.tunings import TUNINGS


def test_tunings_have_a_row_for_each_value_of_item_tuning() -> None:
    assert tuple(TUNINGS) == get_args(Tuning)


def test_tunings_name_cost_and_source() -> None:
    for row in TUNINGS.values():
        assert all(row)
