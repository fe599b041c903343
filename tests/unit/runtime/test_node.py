"""One machine's ranks: their place in the run, and that none outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from pretended import pretend, remaining_processes, started_ranks

from mlrec.runtime.distributed import _nodes, start_world
from mlrec.runtime.node import Part

SERVE = """
import sys
from mlrec.runtime import node
node.REPORT_S, node.RANK_STOP_S = map(float, sys.argv[1:])
sys.exit(node.serve(sys.stdin))
"""
REPORT_S = 2.0
SHORT_REPORT_S = 0.3
RANK_STOP_S = 2.0
START_S = 20
SLACK_S = 4
"""Seconds in which processes end on a busy machine; waiting for one rank after another takes
longer."""


class Node:
    """A node that has received its part, and whose standard input stays open."""

    def __init__(
        self,
        folder: Path,
        slots: tuple[int, ...],
        place: int,
        *arguments: str,
        report_s: float = REPORT_S,
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(report_s), str(RANK_STOP_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        hosts = {f"host{number}": count for number, count in enumerate(slots)}
        part = Part(arguments, hosts, place, "127.0.0.1", 29500, {"PASSED_ON": "yes"})
        self.write(part.to_line())
        first_rank = sum(slots[:place])
        ranks = range(first_rank, first_rank + slots[place])
        expected = {(sum(slots), rank) for rank in ranks}
        deadline = time.monotonic() + START_S
        while not expected <= set(started_ranks(folder)):
            assert time.monotonic() < deadline, self.process.poll()
            time.sleep(0.02)

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def ranks(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def end(self) -> tuple[int, str]:
        """Wait for the end with the input still open; return the exit code and the output."""
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        return self.process.wait(), output


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Node]]:
    """Return a function that starts nodes; check afterwards that no process remains."""
    pretend(tmp_path, monkeypatch)
    nodes: list[Node] = []

    def start_node(
        slots: tuple[int, ...], place: int, *arguments: str, report_s: float = REPORT_S
    ) -> Node:
        nodes.append(Node(tmp_path, slots, place, *arguments, report_s=report_s))
        return nodes[-1]

    yield start_node
    try:
        assert not remaining_processes()
    finally:
        for node in nodes:
            node.process.kill()
            with node.process:  # closes its pipes
                pass


def test_node_with_visible_gpus_shows_them_to_its_ranks(
    start: Callable[..., Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    code, _ = start((2,), 0).end()
    assert code == 0
    environments = [rank["environment"] for rank in started_ranks(tmp_path).values()]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in environments] == ["4,5", "4,5"]


def test_nodes_of_unequal_size_number_local_ranks_from_0(
    start: Callable[..., Node], tmp_path: Path
) -> None:
    slots = (1, 2)
    for place in range(2):
        code, _ = start(slots, place).end()
        assert code == 0
    records = sorted(started_ranks(tmp_path).items())
    environments = {rank: record["environment"] for (_, rank), record in records}
    assert list(environments) == [0, 1, 2]
    local_ranks = [int(one["LOCAL_RANK"]) for one in environments.values()]
    assert local_ranks == [0, 0, 1]
    assert _nodes(local_ranks) == slots
    assert [one["LOCAL_WORLD_SIZE"] for one in environments.values()] == ["1", "2", "2"]
    for rank, environment in environments.items():
        assert environment["RANK"] == str(rank)
        assert environment["WORLD_SIZE"] == "3"
        assert environment["MASTER_ADDR"] == "127.0.0.1"
        assert environment["MASTER_PORT"] == "29500"
        assert environment["PASSED_ON"] == "yes"


@pytest.mark.parametrize(("rank", "code"), [("3 0", 3), ("-9 0", 137), ("2 0", 2)])
def test_node_with_deaf_ranks_kills_them_after_a_failure(
    rank: str, code: int, start: Callable[..., Node]
) -> None:
    node = start((5,), 0, "ranks=0 60", f"rank2={rank}", "deaf=yes", report_s=SHORT_REPORT_S)
    started_at = time.monotonic()
    exit_code, output = node.end()
    assert time.monotonic() - started_at < SHORT_REPORT_S + SLACK_S
    assert exit_code == code
    assert "host0: ranks 0, 1, 3, 4 did not end in time and were killed" in output


def test_node_with_a_failed_rank_stops_the_others_and_returns_the_first_exit_code(
    start: Callable[..., Node],
) -> None:
    code, output = start((3,), 0, "ranks=0 60", "rank1=7 0.2").end()
    assert code == 7, "the ranks that were stopped end with 143"
    assert output.count("told to stop") == 2
    assert "killed" not in output


def test_node_with_bad_input_on_one_rank_lets_the_others_find_it(
    start: Callable[..., Node],
) -> None:
    code, output = start((2,), 0, "rank1=2 0", "rank0=2 0.5").end()
    assert code == 2
    assert output == "", "rank 0 prints the reason, and was not stopped before"


@pytest.mark.parametrize(
    ("how", "deaf"),
    [("signal", False), ("line", False), ("end of input", False), ("signal", True)],
)
def test_node_on_a_stop_gives_its_ranks_time_and_kills_deaf_ones(
    how: str, deaf: bool, start: Callable[..., Node]
) -> None:
    # Longer than the limit after a failure: a stop must not be treated as one.
    stops_after = SHORT_REPORT_S + 0.3
    arguments = ["ranks=0 60", f"stops_after={stops_after}"]
    if deaf:
        arguments.append("deaf=yes")
    node = start((2,), 0, *arguments, report_s=SHORT_REPORT_S)
    started_at = time.monotonic()
    if how == "signal":
        node.process.terminate()
    elif how == "line":
        node.write(f"{int(signal.SIGTERM)}\n")
    else:
        assert node.process.stdin is not None
        node.process.stdin.close()
    code, output = node.end()
    lasted_s = time.monotonic() - started_at
    assert code == (137 if deaf else 143), output
    assert output.count("told to stop") == (0 if deaf else 2)
    assert ("ranks 0, 1 did not end in time" in output) == deaf
    assert (RANK_STOP_S if deaf else stops_after) < lasted_s < RANK_STOP_S + SLACK_S


def test_node_that_is_killed_takes_deaf_ranks_with_it(start: Callable[..., Node]) -> None:
    node = start((2,), 0, "ranks=0 60", "deaf=yes")
    ranks = node.ranks()
    assert len(ranks) == 2
    node.process.kill()
    _, alive = psutil.wait_procs(ranks, timeout=SLACK_S)
    assert not alive


def test_start_world_with_more_ranks_than_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    place = {
        "RANK": "6",
        "LOCAL_RANK": "2",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    message = r"shows 2 GPUs \(see CUDA_VISIBLE_DEVICES\), but has more ranks\. Lower its slots"
    with pytest.raises(RuntimeError, match=message):
        start_world()
