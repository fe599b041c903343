"""A run that streams its items has the losses of one that reads them from disk, and what it moves over the network."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from launching import LAUNCHERS, finish, run, start, start_nodes
from proxy import Proxy, Request
from runs import STEPS_PER_EPOCH, TOLERANCE, losses, metric, results, settings
from trainer import Trainer

from mlrec.data.format import FileInfo, read_dataset_info


@pytest.fixture(scope="session")
def shards(dataset_dir: Path) -> list[FileInfo]:
    return read_dataset_info(str(dataset_dir)).shards("items")


def downloads(requests: list[Request], shards: list[FileInfo]) -> dict[str, int]:
    """How often each whole shard was sent."""
    found = Counter(
        request.path.split("/", 3)[3]
        for request in requests
        if request.sent in {shard.size for shard in shards}
    )
    return dict(found)


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_the_losses_and_the_ranking_are_those_of_a_run_from_disk(
    scheme: str,
    trainer: Trainer,
    s3_data: str,
    proxy: Proxy,
    curve: list[float],
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    url = s3_data if scheme == "s3" else f"{proxy.url}/{s3_data.removeprefix('s3://')}"
    outcome = trainer.train(
        *settings(url, tmp_path, "train.duration=3 epochs", "data.num_workers=1")
    )
    assert outcome.code == 0, outcome.output
    assert losses(tmp_path / "run") == pytest.approx(curve, abs=TOLERANCE)
    assert results(tmp_path / "run")["metrics"]["all"] == pytest.approx(
        results(undisturbed)["metrics"]["all"]
    )
    assert proxy.requests(r"items/"), "it was read through the proxy"


@dataclass
class Watched:
    """Runs and the requests for items while they went on."""

    runs: list[Path]
    requests: list[Request]


@pytest.fixture(scope="module")
def three_epochs(
    s3_data: str, s3_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Watched:
    """Three epochs on two ranks of two workers each."""
    folder = tmp_path_factory.mktemp("three_epochs")
    s3_proxy.clear()
    more = [
        "train.duration=3 epochs",
        "data.num_workers=2",
        f"train.save_every={STEPS_PER_EPOCH} steps",
        "train.keep_last=9",
    ]
    assert "Traceback" not in run([*LAUNCHERS["deepspeed"], *settings(s3_data, folder, *more)])
    return Watched([folder / "run"], s3_proxy.requests("items/"))


def test_ranks_and_workers_share_what_they_download(
    three_epochs: Watched, shards: list[FileInfo], curve: list[float]
) -> None:
    assert losses(three_epochs.runs[0]) == pytest.approx(curve, abs=TOLERANCE)
    assert downloads(three_epochs.requests, shards) == {shard.path: 1 for shard in shards}


def test_no_item_crosses_the_network_after_the_first_epoch(three_epochs: Watched) -> None:
    second = three_epochs.runs[0] / "checkpoints" / f"step-{STEPS_PER_EPOCH:06d}" / "state.json"
    late = [request for request in three_epochs.requests if request.time > second.stat().st_mtime]
    assert not late
    assert sum(metric(three_epochs.runs[0], "data/remote_bytes")[STEPS_PER_EPOCH:]) == 0
    hits = metric(three_epochs.runs[0], "data/cache_hits")
    assert hits[0] < 1.0 and set(hits[STEPS_PER_EPOCH:]) == {1.0}


def test_remote_bytes_are_those_that_the_server_sent(three_epochs: Watched) -> None:
    sent = sum(request.sent for request in three_epochs.requests)
    assert sum(metric(three_epochs.runs[0], "data/remote_bytes")) == pytest.approx(sent, rel=0.01)


def test_two_jobs_of_a_node_share_what_they_download(
    s3_data: str, proxy: Proxy, shards: list[FileInfo], curve: list[float], tmp_path: Path
) -> None:
    names = ["one", "two"]
    jobs = [
        start(
            [
                *LAUNCHERS["plain"],
                *settings(s3_data, tmp_path, "data.num_workers=1", f"name={name}"),
            ]
        )
        for name in names
    ]
    for job in jobs:
        assert "Traceback" not in finish(job)
    for name in names:
        assert losses(tmp_path / name) == pytest.approx(curve[:STEPS_PER_EPOCH], abs=TOLERANCE)
    assert downloads(proxy.requests("items/"), shards) == {shard.path: 1 for shard in shards}


def test_two_nodes_hold_half_of_the_data_each(
    s3_data: str, proxy: Proxy, shards: list[FileInfo], curve: list[float], tmp_path: Path
) -> None:
    caches = [tmp_path / f"node{node}" for node in range(2)]
    common = settings(
        s3_data, tmp_path, "data.ownership=home", "train.duration=3 epochs", "data.num_workers=1"
    )
    for node in start_nodes(tmp_path, *([*common, f"data.cache_dir={cache}"] for cache in caches)):
        finish(node)
    assert losses(tmp_path / "run") == pytest.approx(curve, abs=TOLERANCE)
    found = downloads(proxy.requests("items/"), shards)
    assert found.keys() == {shard.path for shard in shards}
    assert sum(found.values()) <= len(shards) + 1, "only the shard where two nodes meet is on both"
    held = [{path.stem for path in (cache / "items").glob("*.tar")} for cache in caches]
    assert all(held)
    assert len(held[0] & held[1]) <= 1


def test_a_cache_of_a_quarter_of_the_data(
    trainer: Trainer,
    s3_data: str,
    proxy: Proxy,
    shards: list[FileInfo],
    curve: list[float],
    tmp_path: Path,
) -> None:
    budget = max(shard.size for shard in shards)
    assert budget < 0.3 * sum(shard.size for shard in shards)
    outcome = trainer.train(
        *settings(s3_data, tmp_path, f"data.cache_bytes={budget}", "train.duration=3 epochs")
    )
    assert outcome.code == 0, outcome.output
    assert losses(tmp_path / "run") == pytest.approx(curve, abs=TOLERANCE)
    held = [path.stat().st_size for path in (tmp_path / "cache" / "items").glob("*.tar")]
    assert 0 < sum(held) <= budget
    assert metric(tmp_path / "run", "data/remote_bytes")[-1] > 0, (
        "what has no room is read by ranges"
    )
