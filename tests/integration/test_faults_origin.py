"""Damage that is at the storage itself: what is lost is accounted for, and nothing else is."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from proxy import Proxy
from runs import STEPS_PER_EPOCH, TOLERANCE, lines, losses, lost_items, metric, results, settings
from trainer import Trainer

from mlrec.data.format import (
    CATALOGUE_FILE,
    DATASET_FILE,
    Catalogue,
    item_shard,
    read_catalogue,
    read_dataset_info,
    sequence_shard,
)
from mlrec.runtime.printable import counted

SHARD, ITEM = 1, 25
"""The damage is in this shard, at this item of it."""


@pytest.fixture(scope="module")
def catalogue(dataset_dir: Path) -> Catalogue:
    return read_catalogue(str(dataset_dir), read_dataset_info(str(dataset_dir)))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def remove(path: Path, position: int) -> None:
    path.unlink()


DAMAGE: dict[str, tuple[Callable[[Path, int], None], Callable[[int, int], int]]] = {
    "missing": (remove, lambda offset, size: 0),
    "cut-inside-a-member": (cut, lambda offset, size: offset + size // 2),
    "cut-between-members": (cut, lambda offset, size: offset - 512),
    "flipped-frame": (flip, lambda offset, size: offset + size // 2),
}
"""What is done to the shard, and where, by offset and size of a frame."""


def lost_frames(folder: Path, catalogue: Catalogue) -> set[int]:
    """The items of a damaged data set that have a frame which is not whole."""
    lost = set()
    for item in range(1, catalogue.size + 1):
        path = folder / item_shard(int(catalogue.shard_N1[item]))
        shard = path.read_bytes() if path.exists() else b""
        frames = [
            member
            for member in catalogue.members(item)
            if member.name.endswith(".jpg") and "cover" not in member.name
        ]
        if any(
            zlib.crc32(shard[frame.offset : frame.offset + frame.size]) != frame.crc32
            for frame in frames
        ):
            lost.add(item)
    return lost


@pytest.mark.parametrize("name", DAMAGE)
def test_train_lost_items_are_skipped_and_named(
    name: str,
    trainer: Trainer,
    dataset_dir: Path,
    catalogue: Catalogue,
    upload: Callable[[Path, str], str],
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    do, where = DAMAGE[name]
    frame = catalogue.members(ITEM)[2]
    do(copy / item_shard(SHARD), where(frame.offset, frame.size))
    lost = lost_frames(copy, catalogue)
    assert ITEM in lost
    runs = {"disk": str(copy), "s3": upload(copy, f"origin-{name}")}
    for place, url in runs.items():
        outcome = trainer.train(*settings(url, tmp_path / place))
        assert outcome.code == 0, outcome.output
        assert "Traceback" not in outcome.output
        run = tmp_path / place / "run"
        assert lost_items(run) | set(map(int, results(run)["bad_items"])) == lost, place
        assert lost_items(run) == lost, f"{place}: evaluation's lost items are in the ledger"
        assert metric(run, "data/bad_items")[-1] == len(lost)
        assert all(item_shard(SHARD) in entry["reason"] for entry in lines(run, "failures.jsonl"))
    assert losses(tmp_path / "s3" / "run") == pytest.approx(
        losses(tmp_path / "disk" / "run"), abs=TOLERANCE
    )
    assert len(losses(tmp_path / "s3" / "run")) == STEPS_PER_EPOCH
    ranked = [results(tmp_path / place / "run")["metrics"]["all"] for place in runs]
    assert ranked[0] == pytest.approx(ranked[1])
    stopped = trainer.train(
        *settings(runs["s3"], tmp_path / "stopped", f"data.max_bad_items={len(lost) - 1}")
    )
    assert stopped.code == 1, stopped.output
    assert f"{counted(len(lost), 'item')} could not be read" in stopped.output or len(lost) > 1
    assert f"data.max_bad_items is {len(lost) - 1}" in stopped.output


@pytest.mark.parametrize("file", [CATALOGUE_FILE, DATASET_FILE, sequence_shard(1)])
def test_train_damaged_index_is_one_sentence(
    file: str,
    trainer: Trainer,
    dataset_dir: Path,
    upload: Callable[[Path, str], str],
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    content = (copy / file).read_bytes()
    # in dataset.json, which nothing else vouches for, a digit of a checksum
    at = (
        content.index(json.loads(content)["files"][0]["sha256"].encode())
        if file == DATASET_FILE
        else len(content) // 2
    )
    flip(copy / file, at)
    outcome = trainer.train(*settings(upload(copy, f"index-{file.replace('/', '-')}"), tmp_path))
    assert outcome.code in (1, 2), outcome.output
    assert len(outcome.output.splitlines()) == 1, outcome.output
    assert "sha256" in outcome.output
    assert not (tmp_path / "run").exists()
