"""One machine's ranks: where they see themselves, and that none outlives its run. They only pretend to train."""

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
from pretended import left, pretend, seen

from mlrec.runtime.distributed import _nodes, start_world
from mlrec.runtime.node import Part

GRACE_S, STOP_S = 2.0, 4.5
SERVE = f"import sys; from mlrec.runtime import node; node.GRACE_S, node.STOP_S = {GRACE_S}, {STOP_S}; sys.exit(node.serve(sys.stdin))"
START_S = 20
SLACK_S = 4
"""For processes to end on a busy machine; a wait of each rank after the other takes longer."""


class Node:
    """A node that was told its part; its standard input stays open."""

    def __init__(self, folder: Path, slots: tuple[int, ...], place: int, *arguments: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        hosts = {f"host{number}": count for number, count in enumerate(slots)}
        self.tell(Part(arguments, hosts, place, "127.0.0.1", 29500, {"TOLD": "yes"}).to_line())
        deadline = time.monotonic() + START_S
        world = sum(slots)
        own = [(world, rank) for rank in range(sum(slots[:place]), sum(slots[: place + 1]))]
        while not set(own) <= set(seen(folder)):
            assert time.monotonic() < deadline, self.process.poll()
            time.sleep(0.02)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def ranks(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def end(self) -> tuple[int, str]:
        """Its exit code, and what was said; all that while its input is open."""
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        return self.process.wait(), output


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Node]]:
    """Starts nodes; afterwards no process of theirs is left."""
    pretend(tmp_path, monkeypatch)
    nodes: list[Node] = []

    def begin(slots: tuple[int, ...], place: int, *arguments: str) -> Node:
        nodes.append(Node(tmp_path, slots, place, *arguments))
        return nodes[-1]

    yield begin
    try:
        assert not left()
    finally:
        for node in nodes:
            node.process.kill()
            with node.process:  # which closes its pipes
                pass


def test_the_ranks_of_a_node_see_the_gpus_that_the_machine_shows(
    start: Callable[..., Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert start((2,), 0).end()[0] == 0
    assert [rank["environment"]["CUDA_VISIBLE_DEVICES"] for rank in seen(tmp_path).values()] == [
        "4,5",
        "4,5",
    ]


def test_unequal_nodes_number_their_ranks_from_0(
    start: Callable[..., Node], tmp_path: Path
) -> None:
    slots = (1, 2)
    for place in range(2):
        assert start(slots, place).end()[0] == 0
    environments = {rank: told["environment"] for (_, rank), told in sorted(seen(tmp_path).items())}
    assert list(environments) == [0, 1, 2]
    locals_ = [int(environment["LOCAL_RANK"]) for environment in environments.values()]
    assert locals_ == [0, 0, 1]
    assert [environment["LOCAL_WORLD_SIZE"] for environment in environments.values()] == [
        "1",
        "2",
        "2",
    ]
    assert _nodes(locals_) == slots
    for rank, environment in environments.items():
        assert (environment["RANK"], environment["WORLD_SIZE"], environment["TOLD"]) == (
            str(rank),
            "3",
            "yes",
        )
        assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("127.0.0.1", "29500")


@pytest.mark.parametrize(("rank", "code"), [("3 0", 3), ("-9 0", 137), ("2 0", 2)])
def test_ranks_that_hear_no_signal_end_together_after_one_that_failed(
    rank: str, code: int, start: Callable[..., Node]
) -> None:
    node = start((5,), 0, "ranks=0 60", f"rank2={rank}", "deaf=yes")
    began = time.monotonic()
    ended, output = node.end()
    assert time.monotonic() - began < GRACE_S + SLACK_S
    assert ended == code
    assert "host0: of its ranks 0, 1, 3, 4 had not ended and are killed" in output


def test_ranks_are_told_of_a_failure_at_once_and_the_first_exit_code_counts(
    start: Callable[..., Node],
) -> None:
    code, output = start((3,), 0, "ranks=0 60", "rank1=7 0.5").end()
    assert code == 7, "those that were told end with 143"
    assert output.count("told to stop") == 2 and "killed" not in output


def test_bad_input_that_a_rank_finds_first_is_left_to_the_others_to_find(
    start: Callable[..., Node],
) -> None:
    code, output = start((2,), 0, "rank1=2 0", "rank0=2 1").end()
    assert (code, output) == (2, ""), "rank 0 says it, and was not ended before"


@pytest.mark.parametrize("how", ["signal", "line", "end of input"])
def test_a_stop_gives_the_ranks_their_time_and_then_ends_the_deaf(
    how: str, start: Callable[..., Node]
) -> None:
    for deaf in (False, True):
        node = start(
            (2,), 0, "ranks=0 60", f"stops_after={GRACE_S + 0.5}", *(["deaf=yes"] if deaf else [])
        )
        began = time.monotonic()
        if how == "signal":
            node.process.terminate()
        elif how == "line":
            node.tell(f"{int(signal.SIGTERM)}\n")
        else:
            assert node.process.stdin is not None
            node.process.stdin.close()
        code, output = node.end()
        assert code == (137 if deaf else 143), output
        assert ("0, 1 had not ended" in output) == deaf and output.count("told to stop") == (
            0 if deaf else 2
        )
        assert GRACE_S < time.monotonic() - began < STOP_S + SLACK_S
        for file in Path().glob("seen-*"):
            file.unlink()


def test_a_node_that_is_killed_takes_ranks_along_that_hear_no_signal(
    start: Callable[..., Node],
) -> None:
    node = start((2,), 0, "ranks=0 60", "deaf=yes")
    ranks = node.ranks()
    assert len(ranks) == 2
    node.process.kill()
    assert not psutil.wait_procs(ranks, timeout=SLACK_S)[1]


def test_a_machine_with_more_ranks_than_gpus_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(
        RuntimeError,
        match=r"shows 2 GPUs \(see CUDA_VISIBLE_DEVICES\), and has more ranks; lower its slots",
    ):
        start_world()
