"""The table of tunings."""

from typing import get_args

import pytest
from small_towers import tower_of

from mlrec.config.encoder_options import Tuning
from mlrec.models.tunings import TUNINGS


def test_tunings_have_a_row_for_each_value_of_item_tuning() -> None:
    assert tuple(TUNINGS) == get_args(Tuning)


def test_tunings_name_cost_and_source() -> None:
    for row in TUNINGS.values():
        assert all(row)


@pytest.mark.parametrize("tuning", ["side", "lora"])
def test_tuning_of_ids_alone_by_side_or_lora_is_refused(tuning: str) -> None:
    with pytest.raises(ValueError, match=rf"item\.tuning={tuning} has no effect on id/embedding"):
        tower_of("id/embedding", tuning=tuning)
