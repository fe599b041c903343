"""Runs that stream their items: their losses, and the bytes they move over the network."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from launching import LAUNCHERS, finish, run, start, start_nodes
from proxy import Proxy, Request
from runs import STEPS_PER_EPOCH, TOLERANCE, losses, metric, results, settings
from trainer import Trainer

from mlrec.data.format import FileInfo, read_dataset_info

MAX_TIMES_SENT = 3
"""Most bytes sent of all shards, as a multiple of their size.

Processes that request a range at the same time each get it. Of so few items, the first steps of all
workers need most."""


@pytest.fixture(scope="session")
def shards(dataset_dir: Path) -> list[FileInfo]:
    """Return the item shards of the data set."""
    return read_dataset_info(str(dataset_dir)).shards("items")


def times_sent(requests: list[Request], shards: list[FileInfo]) -> dict[str, float]:
    """Return the bytes sent of each shard, as a multiple of its size, by its path."""
    sizes = {shard.path: shard.size for shard in shards}
    times: defaultdict[str, float] = defaultdict(float)
    for request in requests:
        _, _, _, path = request.path.split("/", 3)
        times[path] += request.sent / sizes[path]
    return dict(times)


def check_sent_once(requests: list[Request], shards: list[FileInfo]) -> None:
    """Check that every byte was sent, and few of them twice."""
    times = times_sent(requests, shards)
    assert times.keys() == {shard.path for shard in shards}
    assert min(times.values()) >= 1
    assert sum(times.values()) <= MAX_TIMES_SENT * len(shards)


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_streamed_run_has_the_losses_and_ranking_of_a_run_from_disk(
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
class WatchedRuns:
    """Finished runs, and the requests for items during them."""

    runs: list[Path]
    requests: list[Request]


@pytest.fixture(scope="module")
def three_epochs(
    s3_data: str, s3_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> WatchedRuns:
    """Train for three epochs on two ranks with two loader workers each."""
    folder = tmp_path_factory.mktemp("three_epochs")
    s3_proxy.clear()
    options = [
        "train.duration=3 epochs",
        "data.num_workers=2",
        f"train.save_every={STEPS_PER_EPOCH} steps",
        "train.keep_last=9",
    ]
    assert "Traceback" not in run([*LAUNCHERS["deepspeed"], *settings(s3_data, folder, *options)])
    return WatchedRuns([folder / "run"], s3_proxy.requests("items/"))


def test_streamed_run_fetches_each_byte_and_few_twice(
    three_epochs: WatchedRuns, shards: list[FileInfo], curve: list[float]
) -> None:
    assert losses(three_epochs.runs[0]) == pytest.approx(curve, abs=TOLERANCE)
    check_sent_once(three_epochs.requests, shards)


def test_streamed_run_reads_no_item_remotely_after_the_first_epoch(
    three_epochs: WatchedRuns,
) -> None:
    run_dir = three_epochs.runs[0]
    saved = run_dir / "checkpoints" / f"step-{STEPS_PER_EPOCH:06d}" / "state.json"
    epoch_end = saved.stat().st_mtime
    late_requests = [request for request in three_epochs.requests if request.time > epoch_end]
    assert not late_requests
    assert sum(metric(run_dir, "data/remote_bytes")[STEPS_PER_EPOCH:]) == 0
    hits = metric(run_dir, "data/cache_hits")
    assert hits[0] < 1.0
    assert set(hits[STEPS_PER_EPOCH:]) == {1.0}


def test_streamed_run_reports_the_bytes_that_the_server_sent(three_epochs: WatchedRuns) -> None:
    sent_once: dict[tuple[str, str], int] = {}
    for request in three_epochs.requests:
        place = (request.path, request.range)
        sent_once[place] = max(request.sent, sent_once.get(place, 0))
    reported = sum(metric(three_epochs.runs[0], "data/remote_bytes"))
    # On a busy machine a slow read is asked for twice, and the run counts the answer that it used.
    assert sum(sent_once.values()) * 0.99 <= reported
    assert reported <= sum(request.sent for request in three_epochs.requests) * 1.01


def test_streamed_runs_on_one_node_share_what_they_fetch(
    s3_data: str, proxy: Proxy, shards: list[FileInfo], curve: list[float], tmp_path: Path
) -> None:
    names = ["one", "two"]
    jobs = []
    for name in names:
        options = settings(s3_data, tmp_path, "data.num_workers=1", f"name={name}")
        jobs.append(start([*LAUNCHERS["plain"], *options]))
    for job in jobs:
        assert "Traceback" not in finish(job)
    for name in names:
        assert losses(tmp_path / name) == pytest.approx(curve[:STEPS_PER_EPOCH], abs=TOLERANCE)
    check_sent_once(proxy.requests("items/"), shards)


def test_streamed_runs_on_two_nodes_with_home_ownership_cache_half_each(
    s3_data: str, proxy: Proxy, shards: list[FileInfo], curve: list[float], tmp_path: Path
) -> None:
    caches = [tmp_path / f"node{node}" for node in range(2)]
    common = settings(
        s3_data, tmp_path, "data.ownership=home", "train.duration=3 epochs", "data.num_workers=1"
    )
    options_of_nodes = [[*common, f"data.cache_dir={cache}"] for cache in caches]
    for node in start_nodes(tmp_path, *options_of_nodes):
        finish(node)
    assert losses(tmp_path / "run") == pytest.approx(curve, abs=TOLERANCE)
    times = times_sent(proxy.requests("items/"), shards)
    assert times.keys() == {shard.path for shard in shards}
    # The nodes' halves may meet within a shard, which both of them need then.
    assert sum(times.values()) <= MAX_TIMES_SENT * (len(shards) + 1)
    cached_names = []
    for cache in caches:
        cached_names.append({path.stem for path in (cache / "items").glob("*.tar")})
    assert all(cached_names)
    assert len(cached_names[0] & cached_names[1]) <= 1


def test_streamed_run_with_a_small_cache_stays_within_its_budget(
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
    cached_files = (tmp_path / "cache" / "items").glob("*.tar")
    cached_bytes = sum(path.stat().st_size for path in cached_files)
    assert 0 < cached_bytes <= budget
    # Items without room in the cache are read by ranges, in every epoch.
    assert metric(tmp_path / "run", "data/remote_bytes")[-1] > 0
