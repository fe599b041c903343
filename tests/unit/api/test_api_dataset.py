"""`mlrec.open`: what a data set holds, and batches equal to those of training."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from tiny import NUM_ITEMS, NUM_USERS
from torch.utils.data import DataLoader, IterableDataset

import mlrec
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import Data, StepDataset


@pytest.fixture
def dataset(dataset_dir: Path, tmp_path: Path) -> mlrec.Dataset:
    return mlrec.open(dataset_dir, {"data.cache_dir": tmp_path, "data.num_workers": 0})


def test_open_dataset_has_items_users_and_titles(dataset: mlrec.Dataset, data: Data) -> None:
    table = data.catalogue.table
    assert dataset.items == table["raw_id"].to_pylist()
    assert [dataset.title(item) for item in dataset.items] == table["title"].to_pylist()
    assert dataset.popularity.tolist() == table["popularity"].to_pylist()
    assert dataset.packed.dtype == bool and dataset.packed.shape == (NUM_ITEMS,)
    assert len(dataset.users) == NUM_USERS
    assert dataset.name == data.info.name


def test_frames_are_those_that_were_packed(dataset: mlrec.Dataset, data: Data) -> None:
    frames = dataset.frames(dataset.items[6])
    assert (frames.shape, frames.dtype) == ((5, 32, 32, 3), np.uint8)
    stored = data.store.read(7, [f"{place}.jpg" for place in range(5)])
    for place, frame in enumerate(frames):
        assert (frame == decode_jpeg(stored[f"{place}.jpg"], 32)).all()
    assert (dataset.frames(dataset.items[6], frames=1)[0] == frames[2]).all()
    assert dataset.frames(dataset.items[6], size=16).shape == (5, 16, 16, 3)


def test_histories_are_those_that_are_ranked(dataset: mlrec.Dataset, data: Data) -> None:
    histories = list(dataset.histories("test"))
    users = data.sequences.evaluated_users("test")
    assert [history.user for history in histories] == [dataset.users[user] for user in users]
    for history in histories[:20]:
        watched = dataset.history(history.user)
        assert watched[-1] == history.target
        assert watched[:-1][-len(history.items) :] == history.items
    assert [history.target for history in dataset.histories("validation")] == [
        history.items[-1] for history in histories
    ]


def test_batches_are_those_of_training(dataset: mlrec.Dataset, data: Data) -> None:
    spec = InputSpec(Modality.VIDEO, frames=3, size=16)
    plan = Plan(data.sequences, 5, 18, data.owners(18, (1,)))
    trained = StepDataset(data, plan, 0, (spec,), local_negatives=False)
    batches = list(dataset.batches(18, epoch=2, seed=5, media=("video",), frames=3, size=16))
    assert [batch.step for batch in batches] == [14 + step for step in range(7)]
    for batch in batches:
        expected = trained[batch.step]
        assert torch.equal(batch.users, expected.users_B)
        assert torch.equal(batch.items + 1, expected.items_U)
        assert torch.equal(batch.inputs, expected.inputs_BL)
        assert torch.equal(batch.targets, expected.targets_BL)
        assert torch.equal(batch.log_p, expected.log_p_U)
        assert torch.equal(batch.media["video"], expected.media[spec])
        assert batch.valid.all() and not batch.bad_items
    assert sorted(torch.cat([batch.users for batch in batches]).tolist()) == list(range(NUM_USERS))


def test_batches_without_media_read_no_items(dataset: mlrec.Dataset) -> None:
    batch = next(iter(dataset.batches(10)))
    assert batch.media == {} and len(batch.items) == len(batch.log_p) == len(batch.valid)
    assert batch.to("cpu").items is batch.items
    row = int((batch.inputs[0] >= 0).nonzero()[0])
    history = dataset.history(dataset.users[int(batch.users[0])])
    assert dataset.items[int(batch.items[batch.inputs[0, row]])] in history


def test_open_reads_a_url(dataset_dir: Path, dataset: mlrec.Dataset, tmp_path: Path) -> None:
    url = "memory://api/data"
    fsspec.filesystem("memory").put(str(dataset_dir), url, recursive=True)
    settings = {"data.cache_dir": str(tmp_path / "cache"), "data.num_workers": 0}
    remote = mlrec.open(url, settings)
    item = remote.items[0]
    assert (remote.frames(item) == dataset.frames(item)).all()
    local = dataset.batches(60, media="video")
    for batch, expected in zip(remote.batches(60, media="video"), local, strict=True):
        assert torch.equal(batch.media["video"], expected.media["video"])


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (
            lambda dataset: dataset.frames("nothing"),
            ValueError,
            "has no item 'nothing'. Its first items are 1, 2",
        ),
        (
            lambda dataset: dataset.title(7),
            TypeError,
            'item is 7 of type int. Pass its raw id, such as "7"',
        ),
        (
            lambda dataset: dataset.frames("1", frames=0),
            ValueError,
            "frames is 0. Pass a whole number from 1",
        ),
        (
            lambda dataset: dataset.frames("1", size=2.5),
            TypeError,
            "size is 2.5. Pass a whole number",
        ),
        (
            lambda dataset: dataset.history("nobody"),
            ValueError,
            "has no user 'nobody'; its first ones are",
        ),
        (
            lambda dataset: dataset.histories("train"),
            ValueError,
            "split is 'train'. Pass 'validation' or 'test'",
        ),
        (
            lambda dataset: dataset.batches(0),
            ValueError,
            "batch_size is 0. Pass a whole number from 1",
        ),
        (
            lambda dataset: dataset.batches(8, media=["sound"]),
            ValueError,
            "has no 'sound' of its items. Pass 'video'",
        ),
    ],
)
def test_dataset_arguments_that_misfit_are_named(
    act: Callable[[mlrec.Dataset], object],
    error: type[Exception],
    words: str,
    dataset: mlrec.Dataset,
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        act(dataset)


def test_batches_count_unreadable_items(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = shutil.copytree(dataset_dir, tmp_path / "damaged")
    shutil.rmtree(damaged / "items")
    settings = {"data.cache_dir": tmp_path / "cache", "data.num_workers": 0}
    batch = next(mlrec.open(damaged, settings).batches(18, media=["video"]))
    assert not batch.valid.any()
    told = f"{len(batch.valid)} items of step 0 could not be read: their media are zeros"
    assert told in capsys.readouterr().err
    few = mlrec.open(damaged, {**settings, "data.max_bad_items": 3})
    with pytest.raises(RuntimeError, match=r"could not be read, data\.max_bad_items is 3"):
        next(few.batches(18, media=["video"]))


def test_batches_within_a_loader_worker_are_refused(dataset: mlrec.Dataset) -> None:
    loader = DataLoader(_Inner(dataset), num_workers=1, batch_size=None)
    with pytest.raises(RuntimeError, match="batches cannot run inside a loader worker"):
        next(iter(loader))


class _Inner(IterableDataset[mlrec.Batch]):
    def __init__(self, dataset: mlrec.Dataset) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[mlrec.Batch]:
        return self._dataset.batches(18)


def test_dataset_does_not_depend_on_the_working_directory(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset_dir.parent)
    dataset = mlrec.open(dataset_dir.name, {"data.cache_dir": tmp_path, "data.num_workers": 0})
    monkeypatch.chdir(tmp_path)
    assert next(dataset.batches(18, media=["video"])).valid.all()
    assert dataset.url == str(dataset_dir)


def test_names_that_are_no_raw_ids_are_refused(dataset: mlrec.Dataset) -> None:
    user = dataset.users[0]
    with pytest.raises(TypeError, match=r'user is 1 of type int. Pass its raw id, such as "1"'):
        dataset.history(1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"has no user ' {user}'"):
        dataset.history(f" {user}")
    with pytest.raises(ValueError, match=f"has no item ' {dataset.items[0]}'"):
        dataset.title(f" {dataset.items[0]}")
    with pytest.raises(TypeError, match=r"url is None of type NoneType. Pass a folder or URL"):
        mlrec.open(None)  # type: ignore[arg-type]


def test_open_without_a_catalogue_names_the_file(dataset_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dataset_dir, tmp_path / "data")
    (folder / "catalogue.parquet").unlink()
    with pytest.raises(ValueError, match=r"catalogue.parquet is missing, so the data set is incom"):
        mlrec.open(folder)


def test_open_without_a_data_set_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} is not a data set: it has no dataset.json"):
        mlrec.open(tmp_path)
    with pytest.raises(ValueError, match=r"seed=3 is not a setting of a data set\. Pass keys of"):
        mlrec.open(tmp_path, {"seed": 3})
