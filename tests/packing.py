"""The packer as a process, and videos at which it waits until a test releases or kills it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def start_packer(
    raw: str | Path, out: str | Path, *options: str, output: int | None = None
) -> subprocess.Popen[bytes]:
    """Start mlrec-shards make in a session of its own, by which all its processes are found."""
    program = [sys.executable, "-m", "shards_tools.cli", "make", str(raw), str(out)]
    settings = ["--size", "32", "--users-per-shard", "50", "--workers", "2"]
    return subprocess.Popen(
        [*program, *settings, *options],
        cwd=REPOSITORY,
        stdout=output,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def has_begun(out: Path, records: int) -> bool:
    """Return whether the packer is at work and has at least `records` complete item shards."""
    num_records = len(list((out / "_work").glob("items-*.json")))
    return (out / "_work" / "staging").exists() and num_records >= records


def is_gone(session: int) -> bool:
    """Return whether no process of the session runs."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # behind the name, which may hold anything, come state, parent, group and session
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # a zombie has ended, and waits only for its parent to notice
        if int(fields[3]) == session and fields[0] != "Z":
            return False
    return True


def wait_for(condition: Callable[[], object], timeout_s: float = 120) -> None:
    """Wait until the condition holds, and fail after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def tree(out: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by path."""
    contents = {}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            contents[str(path.relative_to(out))] = path.read_bytes()
    return contents


def data_set(out: Path) -> dict[str, bytes]:
    """Return the content of every file of a data set, without its work folder."""
    return {path: content for path, content in tree(out).items() if not path.startswith("_work/")}


class Pipe:
    """A video of a raw folder as a named pipe, at which a process that reads it waits."""

    def __init__(self, video: Path) -> None:
        self.path = video
        self.content = video.read_bytes()
        video.unlink()
        os.mkfifo(video)

    @contextmanager
    def reader(self) -> Iterator[int]:
        """Yield the process that waits for the video.

        If it still waits at the end, it reads an empty video.
        """
        handles: list[int] = []
        wait_for(partial(self._open, handles))
        try:
            wait_for(self._readers)
            yield self._readers()[0]
        finally:
            os.close(handles[0])

    def _open(self, handles: list[int]) -> bool:
        try:
            handles.append(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
            return True
        except OSError:
            # nobody reads yet
            return False

    def _readers(self) -> list[int]:
        """Return the other processes that have the pipe open."""
        processes = []
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            try:
                process = int(link.parts[2])
                if process != os.getpid() and os.readlink(link) == str(self.path):
                    processes.append(process)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return processes

    def is_left(self) -> bool:
        """Return whether no process waits for the video."""
        return not self._readers()

    def kill(self, victim: Callable[[int], int] = lambda reader: reader) -> None:
        """Kill a process, and wait until the one that waits for the video is gone.

        Args:
            victim: Returns the process to kill, given the one that waits.
        """
        with self.reader() as reader:
            killed = victim(reader)
            os.kill(killed, signal.SIGKILL)
            # while the pipe is open: the reader would find the video empty otherwise
            if killed != reader:
                wait_for(lambda: reader not in self._readers())
        # The pipe is closed now. The next process to try the video must not find it empty.
        wait_for(lambda: reader not in self._readers())

    def give(self) -> None:
        """Give the waiting process the video."""
        with self.reader(), open(self.path, "wb") as pipe:
            pipe.write(self.content)


def parent_of(process: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
