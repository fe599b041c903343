"""Runs cases and prints a table by kind of file; see the package."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads would not survive the fork
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from fuzzing import cases, judging, operations, workspace
from fuzzing.cases import Case
from fuzzing.judging import Verdict
from fuzzing.kinds import KINDS, Kind

OUTCOMES = ("sentence", "quarantined", "identical", "valid change", "failure")


@dataclass
class Running:
    """A process at work on a case."""

    case: Case
    pid: int
    folder: Path
    since: float


class Driver:
    """Forks cases, a few at a time, and judges them."""

    def __init__(self, healthy: Path, folder: Path, jobs: int) -> None:
        self.workspace, self.folder, self.jobs = healthy, folder, jobs
        self.healthy = self._healthy()

    def _healthy(self) -> dict[str, operations.Facts]:
        """What each operation makes of the healthy workspace."""
        folder = self.folder / "healthy"
        folder.mkdir()
        names = tuple(operations.OPERATIONS)
        # one process each: what an operation leaves must not be met by the next
        healthy_facts: dict[str, operations.Facts] = {}
        modules: set[str] = set()
        for name in names:
            own = folder / name.replace(" ", "-")
            own.mkdir()
            os.waitpid(cases.start(None, (name,), self.workspace, own), 0)
            if not (own / "outcome.json").exists():
                raise RuntimeError(
                    f"{name} fails on a healthy workspace: {(own / 'driver').read_text()}"
                )
            outcome = json.loads((own / "outcome.json").read_text())
            result = outcome["operations"][name]
            modules.update(outcome["modules"])
            faults = judging.faults(result)
            if (
                result["code"] != 0
                or faults
                or any(key.startswith("quarantined") for key in result["facts"])
            ):
                raise RuntimeError(f"{name} fails on a healthy workspace: {faults} {result}")
            healthy_facts[name] = result["facts"]
        for module in sorted(modules - set(sys.modules)):  # imported once here, not by each case
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
        gc.collect()
        gc.freeze()  # collections would copy the parent's pages
        self.rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return healthy_facts

    def run(self, drawn: Iterator[Case], seconds: float) -> Iterator[tuple[Case, Verdict]]:
        """Yield a verdict for each case, in the order of their ends; start none after `seconds`."""
        running: dict[int, Running] = {}
        deadline, exhausted = time.monotonic() + seconds, False
        while running or not exhausted:
            while len(running) < self.jobs and not exhausted:
                case = next(drawn, None)
                if case is None or time.monotonic() > deadline:
                    exhausted = True
                    break
                folder = self.folder / f"{case.seed}-{case.number}"
                folder.mkdir()
                pid = cases.start(case, case.kind.operations, self.workspace, folder)
                running[os.pidfd_open(pid)] = Running(case, pid, folder, time.monotonic())
            ready, _, _ = select.select(list(running), [], [], 0.5)
            hung = [
                handle
                for handle, entry in running.items()
                if time.monotonic() - entry.since > cases.LIMIT_S
            ]
            for handle in {*ready, *hung}:
                entry = running.pop(handle)
                yield entry.case, self._end(entry, handle, handle not in ready)

    def _end(self, entry: Running, handle: int, hung: bool) -> Verdict:
        if hung:
            os.killpg(entry.pid, 9)
        _, status, usage = os.wait4(entry.pid, 0)
        os.close(handle)
        growth = usage.ru_maxrss * 1024 - self.rss
        verdict = judging.judge(entry.case, entry.folder, status, growth, hung, self.healthy)
        if hung and (entry.folder / "output").exists():
            verdict.problems.append((entry.folder / "output").read_text(errors="replace")[-1500:])
        shutil.rmtree(entry.folder, ignore_errors=True)
        return verdict


def _draw(
    seed: int, numbers: Iterator[int] | range, healthy: Path, kinds: list[Kind]
) -> Iterator[Case]:
    for number in numbers:
        yield Case(seed, number).draw(healthy, kinds)


def _prepare() -> None:
    """Import what the cases need, once, and have commands run without a process group."""
    import faiss  # noqa: F401
    import transformers.models.bert.modeling_bert
    import transformers.models.bert.tokenization_bert
    import transformers.models.videomae.modeling_videomae  # noqa: F401

    from mlrec.evaluation import evaluate, extract
    from mlrec.serving import export, recommend

    workspace.pack_in_this_process()
    for module in (evaluate, export, extract, recommend):
        module.start_world = lambda: operations.ALONE  # type: ignore[attr-defined]
        module.stop_world = lambda: None  # type: ignore[attr-defined]


def _build(healthy: Path) -> None:
    """Make the workspace in a child process, so that no DeepSpeed threads start in this one."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            partial = healthy.with_name(healthy.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            workspace.pack_in_this_process()
            with open(os.devnull, "w") as sink:
                os.dup2(sink.fileno(), 1)
                workspace.build(partial)
            partial.rename(healthy)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError("the healthy workspace cannot be made")


def _table(counts: dict[str, Counter[str]]) -> str:
    rows = [("kind of file", "cases", *OUTCOMES)]
    total: Counter[str] = sum(counts.values(), Counter())
    for name, outcomes in [*sorted(counts.items()), ("all", total)]:
        rows.append(
            (name, str(outcomes.total()), *(str(outcomes[outcome]) for outcome in OUTCOMES))
        )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def main() -> int:
    """Run cases; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument(
        "--case", type=int, help="run this case alone and print all that it printed"
    )
    parser.add_argument(
        "--kind",
        action="append",
        help="draw only files of this kind; numbers mean other cases then",
    )
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="start no case after this long"
    )
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument(
        "--workspace", type=Path, help="keep the healthy workspace here for the next call"
    )
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if not options.kind or kind.name in options.kind]
    began = time.monotonic()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory(prefix="mlrec-fuzzing-") as name:
        healthy = (options.workspace or Path(name) / "healthy").absolute()
        if not healthy.exists():
            _build(healthy)
        (Path(name) / "cases").mkdir()
        _prepare()
        driver = Driver(healthy, Path(name) / "cases", options.jobs)
        first, count = (options.first, options.cases) if options.case is None else (options.case, 1)
        numbers = range(first, first + count)
        left_s = options.seconds - (time.monotonic() - began)
        for case, verdict in driver.run(_draw(options.seed, numbers, healthy, kinds), left_s):
            counts[case.kind.name][verdict.outcome] += 1
            if verdict.problems or options.case is not None:
                kind = f" --kind {case.kind.name!r}" if options.kind else ""
                print(
                    f"--seed {case.seed} --case {case.number}{kind}: {verdict.what}",
                    *verdict.problems,
                    sep="\n    ",
                    flush=True,
                )
            if options.case is not None:
                print(json.dumps(verdict.operations, indent=1))
    took = time.monotonic() - began
    ran = sum(map(Counter.total, counts.values()))
    print(_table(counts), f"{ran} mutations in {took:.0f} s", sep="\n\n")
    return int(any(outcomes["failure"] for outcomes in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
