"""`mlrec.load`: vectors, scores and recommendations equal to those of the commands."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mlrec
from mlrec.cli.main import run_command
from mlrec.storage import transfer


@pytest.fixture(scope="session")
def video_model(video_run: mlrec.Run) -> mlrec.Model:
    return mlrec.load(video_run)


@pytest.fixture(scope="session")
def id_model(id_run: mlrec.Run) -> mlrec.Model:
    return mlrec.load(str(id_run.path))


@pytest.fixture(scope="session")
def dataset(dataset_dir: Path) -> mlrec.Dataset:
    return mlrec.open(dataset_dir)


def test_recommend_equals_the_command(
    video_run: mlrec.Run,
    video_model: mlrec.Model,
    dataset: mlrec.Dataset,
    capsys: pytest.CaptureFixture[str],
) -> None:
    history = dataset.items[4:1:-1]
    for whom, words in (
        ({"history": history}, ["--history", ",".join(history)]),
        ({"user": dataset.users[5]}, ["--user", dataset.users[5]]),
    ):
        capsys.readouterr()
        run_command(["recommend", str(video_run.path), *words, "-k", "7", "--json"])
        expected = json.loads(capsys.readouterr().out)
        recommended = [asdict(entry) for entry in video_model.recommend(k=7, **whom)]
        assert recommended == expected and len(recommended) == 7


def test_scores_are_products_of_states_and_vectors(video_model: mlrec.Model) -> None:
    ids = video_model.item_ids
    vectors = video_model.item_vectors()
    histories = [ids[:2], ids[7:30], [ids[3]]]
    scores = video_model.scores(histories)
    assert (vectors.shape, vectors.dtype) == ((len(ids), 16), np.float32)
    assert (scores.shape, scores.dtype) == ((3, len(ids)), np.float32)
    model = video_model._served._model.sequence_model  # type: ignore[union-attr]
    items = torch.from_numpy(vectors)
    for history, row in zip(histories, scores, strict=True):
        rows = [ids.index(item) for item in history]
        seen = torch.tensor([rows[-10:]])
        with torch.no_grad():
            prepared = model.prepare(torch.arange(1, len(ids) + 1), items)
            state = model.last_states(prepared, torch.zeros(1, dtype=torch.int64), seen)[0]
        expected = vectors @ state.numpy()
        expected[rows] = -np.inf
        np.testing.assert_allclose(row, expected, atol=1e-5)
        best = video_model.recommend(history, 3)
        assert [entry.raw_id for entry in best] == [ids[place] for place in np.argsort(-row)[:3]]
        assert [entry.score for entry in best] == pytest.approx(np.sort(row)[::-1][:3].tolist())
    assert video_model.scores([]).shape == (0, len(ids))


def test_encode_of_stored_frames_gives_the_item_vectors(
    video_model: mlrec.Model, dataset: mlrec.Dataset
) -> None:
    items = dataset.items[:5]
    video = np.stack([dataset.frames(item) for item in items])
    rows = [video_model.item_ids.index(item) for item in items]
    expected = video_model.item_vectors()[rows]
    np.testing.assert_allclose(video_model.encode({"video": video}), expected, atol=1e-5)
    np.testing.assert_allclose(
        video_model.encode({"video": torch.from_numpy(video)}), expected, atol=1e-5
    )
    # other sizes and numbers of frames are scaled and sampled
    larger = video.repeat(2, axis=1).repeat(2, axis=2).repeat(2, axis=3)
    assert video_model.encode({"video": larger}).shape == (5, 16)


def test_export_equals_its_run(
    exported: Path, id_model: mlrec.Model, dataset: mlrec.Dataset
) -> None:
    model = mlrec.load(exported)
    assert model.item_ids == id_model.item_ids
    np.testing.assert_allclose(model.item_vectors(), id_model.item_vectors(), atol=1e-6)
    histories = [dataset.items[:1], dataset.items[3:30], dataset.items[5:9]]
    np.testing.assert_allclose(model.scores(histories), id_model.scores(histories), atol=1e-4)
    expected = id_model.recommend(histories[2], 4)
    recommended = model.recommend(histories[2], 4)
    assert [(e.raw_id, e.title) for e in recommended] == [(e.raw_id, e.title) for e in expected]
    with pytest.raises(ValueError, match="an export, which has item vectors but no encoders"):
        model.encode({})


def test_export_unknown_items_are_reported(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = mlrec.load(exported)
    first = model.item_ids[0]
    assert (model.scores([[first, "nothing"]]) == model.scores([[first]])).all()
    assert (
        f"ignored, because they have no vector in {exported}: nothing\n" in capsys.readouterr().err
    )


def test_export_without_its_data_set_says_once_that_titles_are_missing(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = mlrec.load(exported, {"data.url": tmp_path / "gone"})
    history = model.item_ids[:2]
    for _ in range(2):
        assert [item.title for item in model.recommend(history, 3)] == ["", "", ""]
    printed = capsys.readouterr().err
    assert printed.count("without titles: it cannot be read from") == 1
    assert 'in Python pass settings={"data.url": URL} to mlrec.load' in printed


HISTORIES: list[tuple[Any, type[Exception], str]] = [
    (
        ["1", "x", "y,z"],
        ValueError,
        'x, "y,z": the catalogue has no such item. Its first items are 1',
    ),
    ([], ValueError, "this history is empty, so there is nothing to recommend after"),
    ([""], ValueError, '"": the catalogue has no such item'),
    ("17", TypeError, "the history '17'|histories must be a list of histories"),
    ([17], TypeError, "a history with 17, which is of type int. Pass raw ids as strings"),
]


@pytest.mark.parametrize(("history", "error", "words"), HISTORIES)
def test_history_that_misfits_is_named(
    history: Any, error: type[Exception], words: str, id_model: mlrec.Model
) -> None:
    with pytest.raises(error, match=words):
        id_model.recommend(history)
    with pytest.raises(error, match=words):
        id_model.scores([history])


def test_recommend_arguments_that_misfit_are_named(id_model: mlrec.Model) -> None:
    with pytest.raises(ValueError, match=r"Cannot recommend 0 items\. Pass a count of at least 1"):
        id_model.recommend(["1"], 0)
    with pytest.raises(TypeError, match="Cannot recommend True items"):
        id_model.recommend(["1"], True)
    with pytest.raises(TypeError, match=r'user is 7 of type int. Pass its raw id, such as "7"'):
        id_model.recommend(user=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="histories must be a list of histories"):
        id_model.scores(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"source is None of type NoneType. Pass a folder or URL"):
        mlrec.load(None)  # type: ignore[arg-type]
    for arguments in ({}, {"history": ["1"], "user": "1"}):
        with pytest.raises(ValueError, match="Pass either a history or a user"):
            id_model.recommend(**arguments)
    with pytest.raises(ValueError, match="the data set has no user 'nobody'"):
        id_model.recommend(user="nobody")


def test_arguments_of_equal_types_are_taken(id_model: mlrec.Model) -> None:
    histories = [["1"], ["2", "1"]]
    expected = id_model.scores(histories)
    assert (id_model.scores(history for history in histories) == expected).all()
    assert id_model.recommend(["1"], np.int64(2)) == id_model.recommend(["1"], 2)  # type: ignore[arg-type]


def test_unreadable_items_are_counted(
    video_run: mlrec.Run, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = shutil.copytree(dataset_dir, tmp_path / "damaged")
    shutil.rmtree(damaged / "items")
    model = mlrec.load(video_run, {"data.url": damaged, "data.cache_dir": tmp_path / "empty"})
    assert model.item_ids == []
    told = f"60 of 60 items of {damaged} could not be read and are left out. The most frequent"
    assert told in capsys.readouterr().err


def test_models_do_not_depend_on_the_working_directory(
    video_run: mlrec.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = Path(video_run.config.data.url)
    monkeypatch.chdir(url.parent)
    model = mlrec.load(
        os.path.relpath(video_run.path), {"data.url": url.name, "data.cache_dir": tmp_path}
    )
    monkeypatch.chdir(tmp_path)
    assert (model.item_vectors() == mlrec.load(video_run).item_vectors()).all()


def test_media_that_misfit_are_named(video_model: mlrec.Model, id_model: mlrec.Model) -> None:
    video = np.zeros((2, 5, 32, 32, 3), dtype=np.uint8)
    for media, words in (
        ({}, r"video/tiny reads video, which is missing. Pass \{'video': ...\}"),
        ({"video": video, "title": ["", ""]}, "no encoder reads 'title'. Pass video alone"),
        (
            {"video": video / 255},
            r"is float64 \[2, 5, 32, 32, 3\]; it must be uint8 \[n, T, H, W, 3\]",
        ),
        ({"video": video[0]}, r"is uint8 \[5, 32, 32, 3\]; it must be"),
        ({"video": video[:, :0]}, r"is uint8 \[2, 0, 32, 32, 3\]; it must be"),
    ):
        with pytest.raises(ValueError, match=words):
            video_model.encode(media)
    with pytest.raises(ValueError, match="id/embedding looks items up by their id"):
        id_model.encode({"video": video})


def test_load_of_a_moved_data_set_takes_settings(
    id_run: mlrec.Run, dataset_dir: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(id_run.path, tmp_path / "run")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(dataset_dir), str(tmp_path / "gone")))
    with pytest.raises(ValueError, match=r"gone is missing\. Name a data set"):
        mlrec.load(run)
    assert mlrec.load(run, {"data.url": dataset_dir}).recommend(["1"], 1)
    with pytest.raises(ValueError, match=r"cannot override settings fixed .* \(seed is 7, was 0\)"):
        mlrec.load(run, {"seed": 7})


def test_load_without_a_run_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} is not a run: it has no config.yaml"):
        mlrec.load(tmp_path)


def test_load_from_an_unreachable_server_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_ATTEMPTS", 1)
    with pytest.raises(RuntimeError, match="failed 1 times, last with ClientConnectorError"):
        mlrec.load("http://127.0.0.1:1/export")
