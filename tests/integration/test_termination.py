"""A fault in any part ends all ranks in time, with an error line and without a process left.

`pytest -s tests/integration/test_termination.py` prints the table of outcomes.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from terminating import (
    LIMIT_S,
    End,
    Fault,
    Raises,
    Ranks,
    Sleeps,
    TakenPort,
    at_once,
    few_files,
    killed_after_a_second,
    no_local_rank,
    nothing,
    small_disk,
    small_shared_memory,
)
from tiny import tiny_overrides

BUG = "This is a bug in mlrec; please report it with the traceback above"
OTHER_RANK = "another rank has ended or cannot be reached"
BOOM = KeyError("boom")


class Row(NamedTuple):
    """A fault, and what the rank that meets it says."""

    fault: Fault
    words: str
    faulty: int = 0
    """The rank that meets it, of two."""
    options: tuple[str, ...] = ()
    disk: tuple[str, int] = ("", 0)
    """The key whose folder is a small disk, and its kilobytes."""
    is_bug: bool = False


WORKER = ("data.num_workers=1",)
LARGE = (
    "item.encoders=[video/tiny]",
    "item.options={video/tiny: {size: 336, width: 16}}",
    "data.num_workers=2",
)
TRAINING = {
    "an exception in forward": Row(
        Raises("mlrec.train.engine", "Engine", "forward", BOOM, 2), BUG, 1, is_bug=True
    ),
    "an exception in backward": Row(
        Raises(
            "deepspeed.runtime.engine", "DeepSpeedEngine", "backward", ZeroDivisionError("boom"), 2
        ),
        BUG,
        1,
        is_bug=True,
    ),
    "an exception in save": Row(
        Raises("mlrec.train.engine", "Engine", "save", BOOM), BUG, is_bug=True
    ),
    "an exception in evaluate": Row(
        Raises("mlrec.evaluation.evaluate", "", "encode_catalogue", BOOM), BUG, 1, is_bug=True
    ),
    "an exception in a loader worker": Row(
        Raises("mlrec.data.stream", "StepDataset", "load", TypeError("boom"), 2),
        BUG,
        1,
        WORKER,
        is_bug=True,
    ),
    "an exception in the tracker": Row(
        Raises("mlrec.runs.tracker", "Tracker", "log", BOOM, 2), BUG, is_bug=True
    ),
    "an exception, and a loader worker that is stuck": Row(
        Sleeps(
            "mlrec.data.stream",
            "StepDataset",
            "load_media",
            Raises("mlrec.runs.tracker", "Tracker", "message", BOOM),
        ),
        BUG,
        0,
        WORKER,
        is_bug=True,
    ),
    "memory runs out": Row(
        Raises("mlrec.train.engine", "Engine", "forward", MemoryError(), 2),
        "this machine's memory is full",
    ),
    "a full disk while caching": Row(
        at_once, "No space left on device", disk=("data.cache_dir", 4)
    ),
    "a full disk while checkpointing": Row(
        at_once, "No space left on device", disk=("run_dir", 24)
    ),
    "64 file descriptors": Row(few_files, "a process may open 64 files here", -1),
    "64 MB of /dev/shm": Row(small_shared_memory, "MB in /dev/shm", -1, LARGE),
    "RANK without LOCAL_RANK": Row(no_local_rank, "the environment has RANK=", -1),
}


@pytest.fixture(scope="module")
def ranks() -> Ranks:
    return Ranks()


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Lines of the table of outcomes."""
    lines = [
        "| fault | ranks | outcome | seconds to exit | exit codes | processes left |",
        "|---|---|---|---|---|---|",
    ]
    yield lines
    print("\n" + "\n".join(lines))


def note(table: list[str], fault: str, count: int, end: End) -> None:
    sentence = (
        end.sentences or [end.output.strip().splitlines()[-1] if end.output.strip() else ""]
    )[0]
    cells = (
        fault,
        str(count),
        sentence[:110],
        f"{end.seconds:.1f}",
        str(end.codes),
        str(len(end.left)),
    )
    table.append(f"| {' | '.join(cells)} |")


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("fault", TRAINING)
def test_training_fault_ends_every_rank_in_time(
    fault: str, count: int, ranks: Ranks, table: list[str], dataset_dir: Path, tmp_path: Path
) -> None:
    row = TRAINING[fault]
    key, kilobytes = row.disk
    with small_disk(tmp_path / "disk", max(kilobytes, 1)) as disk:
        if key and disk is None:
            pytest.skip("mounting a small disk is not possible here")
        if row.fault is small_shared_memory and disk is None:
            pytest.skip("mounting a small /dev/shm is not possible here")
        place = [f"{key}={disk}/run"] if key else []
        settings = [
            *tiny_overrides(dataset_dir, tmp_path),
            "tracking.wandb=disabled",
            "name=run",
            *row.options,
            *place,
        ]
        settings += ["train.evaluate_every=4 steps"]
        end = ranks.run(
            count,
            tmp_path,
            row.fault,
            "mlrec",
            "train",
            *settings,
            faulty=min(row.faulty, count - 1),
        )
    note(table, fault, count, end)
    assert not end.left
    assert end.seconds < LIMIT_S
    assert end.codes == [1] * count, end.output
    assert any(row.words in sentence for sentence in end.sentences), end.output
    assert ("Traceback" in end.output) == row.is_bug, end.output


def test_training_port_in_use_is_named_on_both_ranks(
    ranks: Ranks, table: list[str], dataset_dir: Path, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        end = ranks.run(
            2,
            tmp_path,
            TakenPort(port),
            "mlrec",
            "train",
            *tiny_overrides(dataset_dir, tmp_path),
            faulty=-1,
        )
    note(table, "a port in use", 2, end)
    assert end.codes == [1, 1] and not end.left and end.seconds < LIMIT_S
    assert len(end.sentences) == 2 and all(
        f"port {port}" in sentence for sentence in end.sentences
    ), end.output


@pytest.mark.parametrize("command", ["packing", "reporting"])
def test_command_full_disk_is_one_sentence(
    command: str, ranks: Ranks, table: list[str], raw_dir: Path, run_dir: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 40) as disk:
        if disk is None:
            pytest.skip("mounting a small disk is not possible here")
        if command == "packing":
            program, arguments = (
                "mlrec-shards",
                ("make", str(raw_dir), str(disk / "out"), "--size", "64", "--workers", "2"),
            )
        else:
            program, arguments = (
                "mlrec",
                ("report", str(run_dir), "--out", str(disk / "page.html")),
            )
        end = ranks.run(1, tmp_path, at_once, program, *arguments)
    note(table, f"a full disk while {command}", 1, end)
    assert end.codes == [1] and not end.left and end.seconds < LIMIT_S, end.output
    assert len(end.sentences) == 1 and "No space left on device" in end.sentences[0], end.output
    assert "Traceback" not in end.output


@pytest.fixture(scope="module")
def run_dir(ranks: Ranks, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished")
    end = ranks.run(
        1,
        folder,
        nothing,
        "mlrec",
        "train",
        *tiny_overrides(dataset_dir, folder),
        "name=run",
        "tracking.wandb=disabled",
    )
    assert end.codes == [0], end.output
    return folder / "run"


def test_training_killed_parent_takes_its_workers_along(
    ranks: Ranks, dataset_dir: Path, tmp_path: Path
) -> None:
    settings = [
        *tiny_overrides(dataset_dir, tmp_path),
        "tracking.wandb=disabled",
        "name=run",
        "data.num_workers=2",
    ]
    stuck = Sleeps("mlrec.data.stream", "StepDataset", "load_media", killed_after_a_second)
    end = ranks.run(1, tmp_path, stuck, "mlrec", "train", *settings)
    assert end.codes == [-signal.SIGKILL]
    assert not end.left
