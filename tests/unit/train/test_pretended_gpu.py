"""mlrec's own code on a pretended GPU: equal results, and how often the host waits in a step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pretended_gpu.__main__ import REPORT_FILE
from pretended_gpu.actions import STEPS
from pretended_gpu.checks import CHECKS
from pretended_gpu.faults import FAULTS

TESTS = Path(__file__).parents[2]
STEPS_PER_EPOCH = 7
EVENT_EVERY = 5
"""Steps after which a run also logs, ranks and saves."""


@pytest.fixture(scope="module")
def report(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    # in a process of its own, which alone has the pretended GPU
    folder = tmp_path_factory.mktemp("pretended_gpu")
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-m", "pretended_gpu", str(dataset_dir), str(folder)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((folder / REPORT_FILE).read_text())
    return found


@pytest.mark.parametrize("name", CHECKS)
def test_pretended_gpu_gives_the_results_of_the_cpu(report: dict[str, Any], name: str) -> None:
    assert report["checks"][name]["error"] == ""


@pytest.mark.parametrize("name", FAULTS)
def test_pretended_gpu_finds_planted_fault(report: dict[str, Any], name: str) -> None:
    fault, outcome = FAULTS[name], report["faults"][name]
    assert fault.error in outcome["error"]
    assert bool(fault.error) == bool(outcome["error"])
    if fault.wait:
        waits = [wait for step in outcome["waits"] for wait in step]
        assert any(fault.wait in wait for wait in waits)


@pytest.mark.parametrize("name", [name for name in CHECKS if name.startswith(("step", "encode"))])
def test_forward_and_backward_pass_never_wait_for_the_device(
    report: dict[str, Any], name: str
) -> None:
    (waits,) = report["checks"][name]["waits"]
    assert waits == []


class Bound(NamedTuple):
    """Most waits of the host in a step of a run that only trains."""

    reads: int
    copies: int


ONE_READ = Bound(reads=1, copies=0)
"""The norm of the gradient, by which all ranks decide whether to update."""
RUNS = ["ids", "titles", "video", "recomputed-video", "jpegs", "cached", "side", "lora", "lightgcn"]


def plain_steps(report: dict[str, Any], run: str) -> list[tuple[int, Bound]]:
    """Return number and waits of the steps that only train, except the first one."""
    steps = []
    for step, waits in enumerate(report["checks"][f"train {run}"]["waits"][:STEPS]):
        if step > 0 and (step + 1) % EVENT_EVERY:
            reads = sum(wait.startswith("host read") for wait in waits)
            steps.append((step, Bound(reads, len(waits) - reads)))
    return steps


@pytest.mark.parametrize("run", RUNS)
def test_training_step_reads_the_norm_alone(report: dict[str, Any], run: str) -> None:
    # in the first epoch of a run with cached activations, new ones are copied to the host
    first = STEPS_PER_EPOCH if run in ("cached", "side", "lora") else 1
    steps = [waits for step, waits in plain_steps(report, run) if step >= first]
    assert steps == [ONE_READ] * len(steps)
    assert steps


@pytest.mark.parametrize("run", ["cached", "side", "lora"])
def test_training_step_with_new_items_reads_once_per_chunk_of_them(
    report: dict[str, Any], run: str
) -> None:
    waits = report["checks"][f"train {run}"]["waits"]
    # every item is new once, and the catalogue has 60 of them, in chunks of up to 8
    new_chunks = [wait for step in waits[:STEPS] for wait in step if "activation_cache.py" in wait]
    assert 60 / 8 <= len(new_chunks) <= 60 / 8 + STEPS_PER_EPOCH
    for step, bound in plain_steps(report, run):
        of_chunks = sum("activation_cache.py" in wait for wait in waits[step])
        assert bound == Bound(reads=1 + of_chunks, copies=0)
