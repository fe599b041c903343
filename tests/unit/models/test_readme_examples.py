"""The example encoder and recommender of mlrec/README.md train without changes."""

from dataclasses import replace
from typing import Any

import pytest
from readmes import python_snippets

from mlrec.config import Config, ItemConfig, RecommenderConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, StepDataset
from mlrec.models.building import build_model
from mlrec.models.encoders import ENCODERS
from mlrec.models.recommenders import RECOMMENDERS


def test_readme_examples_as_rows_train(
    video_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {}
    for snippet in python_snippets():
        if "ROWS = " in snippet.text:
            exec(snippet.text, names)
    for table, rows in ((ENCODERS, names["ROWS"]), (RECOMMENDERS, names["RECOMMENDER_ROWS"])):
        for name, row in rows.items():
            monkeypatch.setitem(table, name, row)
    config = replace(
        video_config,
        item=ItemConfig(tuple(names["ROWS"])),
        recommender=RecommenderConfig(*names["RECOMMENDER_ROWS"]),
    )
    model = build_model(config, data, 0)
    batch = StepDataset(
        data, Plan(data.sequences, 0, 18, Owners((1,))), 0, model.tower.specs, False
    )[0]
    model(batch).backward()
    assert all(
        parameter.grad is not None and parameter.grad.any() for parameter in model.parameters()
    )
