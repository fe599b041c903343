"""A stand-in for training: `mlrec.runtime.node` starts it in the place of `mlrec.train`.

It records its arguments and environment, and then ends as the arguments say.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import psutil
import pytest

import mlrec

TRAIN = """
import json, os, signal, sys, time
options = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
folder = os.environ["FOLDER"]
rank, size = os.environ["RANK"], os.environ["WORLD_SIZE"]

def stop(number, frame):
    print("told to stop", rank, flush=True)
    time.sleep(float(options.get("stops_after", 0)))
    sys.exit(143)

signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in options else stop)
with open(f"{folder}/part-{rank}", "w") as file:
    json.dump({"arguments": sys.argv[1:], "environment": dict(os.environ)}, file)
os.rename(file.name, f"{folder}/started-{size}-{rank}.json")

# Wait for the other ranks of this machine, as real ranks do.
first = int(rank) - int(os.environ["LOCAL_RANK"])
local_ranks = range(first, first + int(os.environ["LOCAL_WORLD_SIZE"]))
files = [f"{folder}/started-{size}-{local_rank}.json" for local_rank in local_ranks]
deadline = time.monotonic() + 20
while not all(os.path.exists(file) for file in files) and time.monotonic() < deadline:
    time.sleep(0.01)

code, seconds = options.get(f"rank{rank}", options.get("ranks", "0 0")).split()
time.sleep(float(seconds))
if int(code) < 0:
    os.kill(os.getpid(), -int(code))
sys.exit(int(code))
"""


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `folder` the working folder, in which `python -m mlrec.train` runs the stand-in.

    The rest of mlrec is real. Arguments of the stand-in:
        ranks="CODE SECONDS": exit code of all ranks and the time until then; -N is a death by
            signal N.
        rank1="CODE SECONDS": the same for rank 1 only.
        stops_after=SECONDS: time between SIGTERM and the end.
        deaf=yes: SIGTERM is ignored.
    """
    real_package = str(Path(mlrec.__file__).parent)
    (folder / "mlrec").mkdir()
    (folder / "mlrec" / "__init__.py").write_text(f"__path__.append({real_package!r})")
    (folder / "mlrec" / "train.py").write_text(TRAIN)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FOLDER", str(folder))


def started_ranks(folder: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the "arguments" and the "environment" of each started rank, by (ranks, rank)."""
    records = {}
    for file in folder.glob("started-*.json"):
        _, size, rank = file.stem.split("-")
        records[int(size), int(rank)] = json.loads(file.read_text())
    return records


def remaining_processes() -> list[psutil.Process]:
    """Return the processes of runs that this process and its children have started."""
    remaining = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):  # it has ended
            if {"mlrec.runtime.node", "mlrec.train"} & set(child.cmdline()):
                remaining.append(child)
    return remaining
