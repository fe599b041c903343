"""What a service loads: exported vectors and index, against the run that they are of."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from launching import call
from tiny import tiny_overrides

from mlrec import recommend
from mlrec.config import Config, RecommenderConfig, load
from mlrec.data.stream import Data
from mlrec.distributed import World
from mlrec.models.encoders.features import read_features
from mlrec.recommend import recommend as recommend_exactly
from mlrec.recommend import recommend_from_index
from mlrec.serving import SERVING_FILE, ServedModel, export_index

ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))


@pytest.fixture(scope="module")
def trained(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    settings = [*tiny_overrides(dataset_dir, tmp_path_factory.mktemp("trained")), "train.duration=4 steps"]
    assert call("mlrec", "train", *settings) == 0
    return load([], settings)


@pytest.fixture(scope="module")
def exported(trained: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    assert call("mlrec", "export", str(trained.run_path), str(out), "--index") == 0
    return out


def test_the_index_finds_what_exact_search_finds(exported: Path, trained: Config, data: Data) -> None:
    assert json.loads((exported / SERVING_FILE).read_text())["recall@10"] == 1.0, "a graph of so few items is exact"
    for user in data.sequences.users[:3].tolist():
        exact = recommend_exactly(trained.run_path, user, (), 5, ALONE)
        found = recommend_from_index(str(exported), user, (), 5)
        assert [entry.item for entry in found] == [entry.item for entry in exact]
        assert [entry.score for entry in found] == pytest.approx([entry.score for entry in exact], abs=1e-5)


def test_a_service_needs_no_data_set(exported: Path, data: Data) -> None:
    served = ServedModel(str(exported))
    history = served.items_N[:3].tolist()
    items, scores = served.recommend([*history, data.catalogue.size + 7], count=4)
    assert len(items) == 4 and not set(items) & set(history)
    assert (np.diff(scores) <= 0).all()
    assert len(served.recommend(history, count=10_000)[0]) == len(served.items_N) - len(history)


def test_the_command_takes_an_export(exported: Path, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    recommend.main([str(exported), "--user", str(data.sequences.users[0]), "-k", "2", "--json"])
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_vectors_of_an_export_are_features(exported: Path, trained: Config) -> None:
    items, vectors = read_features(str(exported))
    assert vectors.shape == (len(items), trained.recommender.width)


def test_what_has_no_index_is_said(trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(trained, recommender=RecommenderConfig("nfm", 16, {}))
    monkeypatch.setattr("mlrec.serving.load_run", lambda run: other)
    with pytest.raises(ValueError, match="nfm does not score by the product"):
        export_index(trained.run_path, str(tmp_path), ALONE)
    with pytest.raises(ValueError, match=f"has no {SERVING_FILE}; mlrec export RUN OUT --index"):
        ServedModel(str(tmp_path))
