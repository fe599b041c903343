"""A training that only pretends: what `mlrec.runtime.node` starts then says what it was told, and ends as the arguments say."""

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
given = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
rank, size = os.environ["RANK"], os.environ["WORLD_SIZE"]
def stop(number, frame):
    print("told to stop", rank, flush=True)
    time.sleep(float(given.get("stops_after", 0)))
    sys.exit(143)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in given else stop)
with open(f"{os.environ['FOLDER']}/part-{rank}", "w") as file:
    json.dump({"arguments": sys.argv[1:], "environment": dict(os.environ)}, file)
os.rename(file.name, f"{os.environ['FOLDER']}/seen-{size}-{rank}.json")
first = int(rank) - int(os.environ["LOCAL_RANK"])
here = [f"{os.environ['FOLDER']}/seen-{size}-{first + local}.json" for local in range(int(os.environ["LOCAL_WORLD_SIZE"]))]
until = time.monotonic() + 20
while not all(os.path.exists(file) for file in here) and time.monotonic() < until:  # as real ranks meet
    time.sleep(0.01)
code, after = given.get(f"rank{rank}", given.get("ranks", "0 0")).split()
time.sleep(float(after))
os.kill(os.getpid(), -int(code)) if int(code) < 0 else sys.exit(int(code))
"""


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has every `python -m mlrec.train` pretend, in `folder`, which becomes the working folder; the rest of mlrec is real.

    Arguments: ranks="CODE SECONDS" of all, rank1=... of one, -N for a death by signal N; stops_after=SECONDS; deaf= to SIGTERM.
    """
    (folder / "mlrec").mkdir()
    (folder / "mlrec" / "__init__.py").write_text(
        f"__path__.append({str(Path(mlrec.__file__).parent)!r})"
    )
    (folder / "mlrec" / "train.py").write_text(TRAIN)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FOLDER", str(folder))


def seen(folder: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """By (ranks, rank): the "arguments" and the "environment" that a rank was started with."""
    files = [(file, file.stem.split("-")) for file in folder.glob("seen-*.json")]
    return {(int(size), int(rank)): json.loads(file.read_text()) for file, (_, size, rank) in files}


def left() -> list[psutil.Process]:
    """Processes of this session that belong to a run."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):  # it has ended
            found += [child] if {"mlrec.runtime.node", "mlrec.train"} & set(child.cmdline()) else []
    return found
