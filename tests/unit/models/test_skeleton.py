"""Modules with shapes, but without memory or values."""

import socket

import numpy as np
import pyarrow as pa
import pytest
from small_encoders import SMALL

from mlrec.config import ItemConfig, RecommenderConfig
from mlrec.data.features.join import ItemIds
from mlrec.models.encoder_files import Restored
from mlrec.models.encoders import ENCODERS
from mlrec.models.recommenders import RECOMMENDERS, build_user_model
from mlrec.models.skeleton import skeletons
from mlrec.models.tower import ItemTower

SHAPES = Restored({}, weights="none")


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


def shapes_of(tower: ItemTower) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in tower.named_parameters()}


@pytest.mark.parametrize("name", [name for name in SMALL if not name.startswith("features/")])
def test_skeletons_of_towers_have_the_shapes_of_built_towers(name: str) -> None:
    options = {name: SMALL[name]} if SMALL[name] else {}
    item = ItemConfig(encoders=(name,), options=options, tuning="top")
    try:
        built = ItemTower(item, 16, 50)
    except ValueError as error:  # torchvision is not a requirement
        pytest.skip(str(error))
    with skeletons():
        skeleton = ItemTower(item, 16, 50, SHAPES)
    assert shapes_of(skeleton) == shapes_of(built)
    trained = [parameter.requires_grad for parameter in built.parameters()]
    assert [parameter.requires_grad for parameter in skeleton.parameters()] == trained


PUBLISHED = """
text/bert_base text/roberta text/embedding_bag image/swin video/mvit_b_16x4 video/videomae
"""


@pytest.mark.parametrize("name", PUBLISHED.split())
def test_skeletons_of_published_checkpoints_need_no_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with skeletons():
        tower = ItemTower(ItemConfig(encoders=(name,)), 16, 50, SHAPES)
    if name.startswith("text/bert"):
        # the vocabulary of the checkpoint, not that of bytes
        assert (30522, ENCODERS[name].width) in shapes_of(tower).values()


def test_skeletons_of_an_unknown_checkpoint_are_refused() -> None:
    options = {"video/videomae": {"checkpoint": "MCG-NJU/videomae-large"}}
    item = ItemConfig(encoders=("video/videomae",), options=options)
    message = (
        r"item.options.video/videomae.checkpoint is 'MCG-NJU/videomae-large', and the shapes of "
        r"its weights are unknown without it. Set it to a folder of this machine that has the "
        r"checkpoint's config.json"
    )
    with skeletons(), pytest.raises(ValueError, match=message):
        ItemTower(item, 16, 50, SHAPES)


def test_skeletons_of_features_have_the_width_of_their_file(tmp_path: object) -> None:
    path = f"{tmp_path}/text.npy"
    np.save(path, np.zeros((7, 5), dtype=np.float32))
    item = ItemConfig(encoders=("features/text",), options={"features/text": {"checkpoint": path}})
    no_ids = ItemIds(pa.nulls(0, pa.string()), "planned", "")
    with skeletons():
        tower = ItemTower(item, 16, 50, SHAPES, no_ids)
    assert tower.encoders[0].width == 5
    assert tower.encoders[0].table.shape == (51, 5)
