"""Kills and restarts training and packing at random, and compares with an undisturbed result.

From the folder tests:

    python -m killing train --ranks 1 --kills 30
    python -m killing train --ranks 2 --kills 30
    python -m killing pack --kills 20
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent / "end_to_end"))

from launching import LAUNCHERS, start
from packing import data_set, start_packer
from tiny import NUM_ITEMS, NUM_USERS, tiny_overrides

STEPS = 60
TOLERANCE = 1e-6
LIMIT_S = 300
"""A command that has not ended after this long hangs."""
LEFT_S = 60
"""Seconds that the processes of a killed command have to notice."""
MOST_KILLS = 4
"""Of one run, which then may end."""
STOP_SHARE = 0.15
"""Of the kills that are a SIGTERM to the command instead."""

ITSELF_SHARE = 0.4
"""Of the kills that always hit the command itself, not any of its processes."""


@dataclass
class Kill:
    """One signal and what came of it."""

    who: str
    when: str

    def __str__(self) -> str:
        return f"{self.who} {self.when}"


def members(session: int) -> list[psutil.Process]:
    """Return the living processes of a session."""
    processes = []
    for process in psutil.process_iter(["status"]):
        try:
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getsid(process.pid) == session:
                processes.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return processes


def role(process: psutil.Process, session: int) -> str:
    """Return the role of a process of a command, in words."""
    try:
        words, parent = " ".join(process.cmdline()), process.parent()
        if "mlrec.train" in words and "--local_rank" in words:
            within = parent is not None and parent.cmdline() == process.cmdline()
            return ("loader worker of " if within else "") + words[
                words.index("--local_rank") + 2 :
            ].split()[0]
        if process.pid == session:
            return "the command"
        return (
            "worker" if "spawn_main" in words or (parent and parent.pid == session) else "launcher"
        )
    except psutil.Error:
        return "a process that ended"


def kill_once(command: subprocess.Popen[str], draw: random.Random, moment: str) -> Kill | None:
    """Kill a random process of the command, or stop the command; None if it has ended."""
    if command.poll() is not None or not (alive := members(command.pid)):
        return None
    if draw.random() < STOP_SHARE:
        command.terminate()
        return Kill("SIGTERM to the command", moment)
    victim = draw.choice(alive)
    if draw.random() < ITSELF_SHARE:
        victim = psutil.Process(command.pid)
    who = role(victim, command.pid)
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        return None
    return Kill(f"SIGKILL of {who}", moment)


def end_of(command: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output of a command whose processes must all be gone soon after it.

    Raises:
        RuntimeError: it hangs, or processes are left.
    """
    try:
        printed, faults = command.communicate(timeout=LIMIT_S)
        deadline = time.monotonic() + LEFT_S
        while left := members(command.pid):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes are left: {[process.cmdline() for process in left]}")
            time.sleep(0.1)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"still at work after {LIMIT_S} s: {error.output}") from error
    finally:
        for process in members(command.pid):
            process.kill()
    text = printed or faults or ""
    return command.returncode, text if isinstance(text, str) else text.decode(errors="replace")


def until_done(
    subject: Training | Packing, run: str, draw: random.Random, kills: int
) -> list[Kill]:
    """Run a command to its end, killing it up to `kills` times on the way.

    Exit code 0 alone does not prove the end. The deepspeed command also returns 0 when its own
    child, which starts the ranks, is killed (runner.py passes on positive codes only).
    """
    done: list[Kill] = []
    while True:
        command = subject.begin(run)
        before = len(done)
        if len(done) < kills:
            when = subject.moment(run, draw)
            if (kill := kill_once(command, draw, when)) is not None:  # type: ignore[arg-type]
                done.append(kill)
        code, printed = end_of(command)  # type: ignore[arg-type]
        if code == 0 and subject.is_done(run):
            return done
        if len(done) == before:
            raise RuntimeError(f"ended with {code} without a kill: {printed[-3000:]}")


def lines(run: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl that are whole."""
    path = run / "metrics.jsonl"
    text = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in text if line.endswith("}")]


def make_raw(folder: Path) -> None:
    """Make a synthetic raw folder."""
    from shards_tools.cli import main

    size = ["--users", str(NUM_USERS), "--items", str(NUM_ITEMS)]
    assert main(["synthetic", str(folder), *size]) == 0


class Training:
    """Runs of `mlrec train` on item ids, on one rank or more."""

    def __init__(self, folder: Path, ranks: int) -> None:
        from shards_tools.cli import main

        self.folder = folder
        self.data = folder / "data"
        self.longest_s = 20.0
        self.launcher = LAUNCHERS["plain" if ranks == 1 else "deepspeed"]
        make_raw(folder / "raw")
        assert main(["make", str(folder / "raw"), str(self.data), "--size", "32"]) == 0

    def begin(self, name: str) -> subprocess.Popen[str]:
        """Start the run called `name`."""
        more = [
            f"train.duration={STEPS} steps",
            "train.save_every=2 steps",
            "train.evaluate_every=10 steps",
            "data.num_workers=1",
        ]
        return start(
            [*self.launcher, *tiny_overrides(self.data, self.folder), *more, f"name={name}"]
        )

    def is_done(self, name: str) -> bool:
        """Return whether the run has written its last file."""
        return (self.folder / name / "results.json").exists()

    def moment(self, name: str, draw: random.Random) -> str:
        """Wait for a step in most cases, else for some seconds."""
        run, began = self.folder / name, time.monotonic()
        if draw.random() < 0.3:
            time.sleep(draw.uniform(0, 0.9 * self.longest_s))
        else:
            seen = len(lines(run))
            wanted = seen + draw.randrange(1, 12)
            while (
                len(lines(run)) < wanted
                and len(lines(run)) >= seen - 8
                and time.monotonic() - began < 60
            ):
                if (run / "results.json").exists():
                    break
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.2))
        logged = lines(run)
        step = int(logged[-1]["step"]) if logged else 0
        return f"after {time.monotonic() - began:.1f} s, at step {step}"

    def differences(self, name: str) -> list[str]:
        """Return the differences between a run and the undisturbed one."""
        import torch

        from mlrec.runs import checkpoint

        runs = [self.folder / "undisturbed", self.folder / name]
        faults = []
        losses = [
            {line["step"]: line["train/loss"] for line in lines(run) if "train/loss" in line}
            for run in runs
        ]
        if losses[0].keys() != losses[1].keys() or len(losses[0]) != STEPS:
            faults.append(
                f"steps {sorted(losses[0].keys() ^ losses[1].keys())}, {len(losses[1])} of {STEPS}"
            )
        elif (
            most := max(abs(losses[0][step] - losses[1][step]) for step in losses[0])
        ) > TOLERANCE:
            faults.append(f"losses differ by {most:.2g}")
        paths = [checkpoint.best(run, "hr@10") for run in runs]
        assert None not in paths
        before, after = (
            dict(checkpoint.read_tensors(path, "")) for path in paths if path is not None
        )
        if before.keys() != after.keys():
            faults.append("the best checkpoints hold other tensors")
        else:
            gaps = [
                float((before[key] - after[key]).abs().max())
                for key in before
                if before[key].numel()
            ]
            if not (max(gaps) <= TOLERANCE) or not all(
                bool(torch.isfinite(value).all()) for value in after.values()
            ):
                faults.append(f"weights differ by {max(gaps):.2g}")
        if len({(run / "results.json").read_text() for run in runs}) > 1:
            faults.append("results.json differs")
        return faults


class Packing:
    """Packs of a raw folder with videos."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.longest_s = 20.0
        make_raw(folder / "raw")

    def begin(self, name: str) -> subprocess.Popen[bytes]:
        """Start or go on packing to the folder called `name`."""
        return start_packer(self.folder / "raw", self.folder / name, "--items-per-shard", "8")

    def is_done(self, name: str) -> bool:
        """Return whether the data set has the file that is written last."""
        return (self.folder / name / "dataset.json").exists()

    def moment(self, name: str, draw: random.Random) -> str:
        """Wait for an item shard in half of the cases, else for part of the packing time."""
        began = time.monotonic()
        if draw.random() < 0.5:
            wanted = self._shards(name) + draw.randrange(1, 4)
            while self._shards(name) < wanted and time.monotonic() - began < self.longest_s:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.2))
        else:
            time.sleep(draw.uniform(0, self.longest_s))
        return f"after {time.monotonic() - began:.1f} s, {self._shards(name)} item shards written"

    def _shards(self, name: str) -> int:
        return len(list((self.folder / name).glob("items/*.tar")))

    def differences(self, name: str) -> list[str]:
        """Return the packed files that differ."""
        before, after = data_set(self.folder / "undisturbed"), data_set(self.folder / name)
        return sorted(
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        )


def main() -> int:
    """Kill and compare; exit code 1 if a result differs."""
    parser = argparse.ArgumentParser(prog="python -m killing", description=__doc__)
    parser.add_argument("what", choices=("train", "pack"))
    parser.add_argument("--ranks", type=int, choices=(1, 2), default=1)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    draw = random.Random(options.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mlrec-killing-") as name:
        subject = (
            Training(Path(name), options.ranks) if options.what == "train" else Packing(Path(name))
        )
        first = time.monotonic()
        code, printed = end_of(subject.begin("undisturbed"))  # type: ignore[arg-type]
        assert code == 0, printed
        took = time.monotonic() - first
        subject.longest_s = took
        print(f"undisturbed: {took:.1f} s", flush=True)
        total = identical = runs = 0
        while total < options.kills:
            run = f"killed-{runs}"
            most = min(options.kills - total, draw.randrange(1, MOST_KILLS + 1))
            faults: list[str] = []
            try:
                done = until_done(subject, run, draw, most)
                faults = subject.differences(run)
            except RuntimeError as error:
                done, faults = [], [str(error)]
            runs, total, identical = (
                runs + 1,
                total + max(len(done), bool(faults)),
                identical + len(done) * (not faults),
            )
            for kill in done:
                print(f"{run}: {kill}", flush=True)
            print(f"{run}: {'; '.join(faults) or 'identical'}", flush=True)
    ranks = f" on {options.ranks} rank{'s' * (options.ranks > 1)}" * (options.what == "train")
    print(
        f"{options.what}{ranks}: {total} kills in {runs} runs, {identical} identical, "
        f"{time.monotonic() - began:.0f} s"
    )
    return int(identical < total)


if __name__ == "__main__":
    sys.exit(main())
