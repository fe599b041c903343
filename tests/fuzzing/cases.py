"""One case: a copy of the workspace with one mutated file, read in a forked process."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzzing import mutations, operations, seals
from fuzzing.documents import CANARY, VICTIM
from fuzzing.kinds import Kind
from mlrec.runtime.entry_point import run_main

LIMIT_S = 20.0
ADDRESS_SPACE_BYTES = 3 << 30
"""On top of what the parent has: libraries reserve more than they use."""
SEALED_SHARE = 0.5

WRITTEN = {
    "cache",
    "pushed",
    "exported",
    "packed",
    "page.html",
    "report.html",
    "report.md",
    "saved.yaml",
    CANARY,
}
"""What operations may add to the workspace."""
CHANGING = {"repair", "make on", "extract"}
"""Operations that write into the folders that they read; the last of a kind's."""


@dataclass
class Case:
    """What is mutated, drawn from seed and number alone."""

    seed: int
    number: int
    kind: Kind = field(init=False)
    file: str = field(init=False)
    sealed: bool = field(init=False)
    rng: Random = field(init=False)

    def draw(self, workspace: Path, kinds: list[Kind]) -> Case:
        """Choose kind, file and whether checksums are brought up to date."""
        self.rng = Random(f"{self.seed}/{self.number}")
        self.kind = self.rng.choices(kinds, [kind.share for kind in kinds])[0]
        self.file = self.rng.choice(self.kind.files(workspace))
        self.sealed = self.rng.random() < SEALED_SHARE and self.kind.sealable
        return self


def run_in_child(case: Case | None, names: tuple[str, ...], workspace: Path, folder: Path) -> None:
    """Make the case's folder, run the operations `names` and write outcome.json.

    Without a case, the workspace stays healthy.
    """
    needs = (
        case.kind.needs
        if case
        else tuple(path.name for path in workspace.iterdir() if path.is_dir())
    )
    inside = folder / "ws"
    for need in needs:
        shutil.copytree(workspace / need, inside / need)
    for place in (folder, inside):
        (place / CANARY).mkdir()
        for name in ("victim", "victim.tar", "victim.partial", "victim.yaml"):
            (place / CANARY / name).write_bytes(VICTIM)
    os.chdir(inside)
    outcome: dict[str, Any] = {"what": "nothing", "sealed": False, "operations": {}}
    if case is not None:
        before = Path(case.file).read_bytes()
        words, content = mutations.mutate(case.file, before, case.rng)
        Path(case.file).write_bytes(content)
        outcome["sealed"] = case.sealed and seals.seal(inside, case.file, before)
        outcome["what"] = f"{case.file}{', sealed' if outcome['sealed'] else ''}: {words}"
    (folder / "what").write_text(json.dumps(outcome))
    watched = {need: need not in ("cache", "runs", "half") for need in needs}
    untouched = _digests(folder, watched)
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.dump_traceback_later(LIMIT_S - 1, file=sys.stderr)
    touched: set[tuple[str, str]] = set()
    for name in names:
        if name in CHANGING and any(watched.values()):
            touched |= set(untouched.items()) ^ set(_digests(folder, watched).items())
            watched = {}
            untouched = _digests(folder, watched)
        outcome["operations"][name] = _operate(name, folder / "output")
    outcome["touched"] = sorted(
        touched | set(untouched.items()) ^ set(_digests(folder, watched).items())
    )
    outcome["new"] = sorted({path.name for path in inside.iterdir()} - {*needs, *WRITTEN})
    outcome["modules"] = sorted(sys.modules)
    (folder / "outcome.json").write_text(json.dumps(outcome))


def _digests(folder: Path, watched: dict[str, bool]) -> dict[str, str]:
    """Return digests of everything that no operation may change.

    These are the canaries, the files next to the workspace, and its watched folders.
    """
    tops = [
        folder / CANARY,
        folder / "ws" / CANARY,
        *(folder / "ws" / name for name in watched if watched[name]),
    ]
    beside = dict.fromkeys(
        set(os.listdir(folder)) - {"output", "what", "ws", CANARY}, "beside the workspace"
    )
    return beside | {
        f"{top}/{name}": digest
        for top in tops
        for name, digest in operations.digest_of_tree(top).items()
    }


def _operate(name: str, output: Path) -> dict[str, Any]:
    facts: operations.Facts = {}
    before, began = output.stat().st_size, time.monotonic()

    def main(_: object) -> None:
        facts.update(operations.OPERATIONS[name]())

    ending: dict[str, Any] = {}
    try:
        ending["code"] = run_main(main, [])
    except SystemExit as error:
        ending["code"] = error.code
    except BaseException as error:  # whatever it is, it is judged
        ending |= {"code": None, "raised": "".join(traceback.format_exception(error)[-4:])}
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    printed = output.read_bytes()[before:].decode(errors="replace")
    return {
        **ending,
        "facts": facts,
        "printed": printed[-200_000:],
        "seconds": time.monotonic() - began,
    }


def start(case: Case | None, names: tuple[str, ...], workspace: Path, folder: Path) -> int:
    """Fork a process that runs the case; its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        run_in_child(case, names, workspace, folder)
        os._exit(0)
    except BaseException:
        (folder / "driver").write_text(traceback.format_exc())
        os._exit(99)
