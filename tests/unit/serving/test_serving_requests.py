"""Requests to a served model with arguments of other types: one sentence says what to pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlrec.serving.model import ServedModel


@pytest.mark.parametrize(
    ("history", "count", "error", "words"),
    [
        ("17", 3, TypeError, "the history '17': it is of type str. Pass a list of raw ids"),
        (None, 3, TypeError, "the history None: it is of type NoneType"),
        ([17], 3, TypeError, "a history with 17, which is of type int. Pass raw ids as strings"),
        (["17"], 2.5, TypeError, "Cannot recommend 2.5 items. Pass a whole number as count"),
        (["17"], None, TypeError, "Cannot recommend None items"),
        (["17"], -1, ValueError, "Cannot recommend -1 items. Pass a count of at least 1"),
        (np.array(["17"]), np.int64(0), ValueError, "Cannot recommend 0 items"),
    ],
)
def test_recommend_arguments_of_other_types_are_refused(
    history: Any, count: Any, error: type[Exception], words: str
) -> None:
    # arguments are checked before anything of the export is used
    served = object.__new__(ServedModel)
    with pytest.raises(error, match=words):
        served.recommend(history, count)
