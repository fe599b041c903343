"""Modules with shapes, but without memory or values."""

import pytest

from mlrec.config import RecommenderConfig
from mlrec.models.recommenders import RECOMMENDERS, build_user_model
from mlrec.models.skeleton import skeletons


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_skeletons_have_the_shapes_of_built_models(name: str) -> None:
    config = RecommenderConfig(name=name, width=8)
    with skeletons():
        skeleton = build_user_model(config, 5).state_dict()
    built = build_user_model(config, 5).state_dict()
    assert all(tensor.is_meta for tensor in skeleton.values())
    assert {key: tensor.shape for key, tensor in skeleton.items()} == {
        key: tensor.shape for key, tensor in built.items()
    }
