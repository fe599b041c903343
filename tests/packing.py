"""The packer as a command, and videos at which it stands still until a test lets it go on or kills it."""

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
    """The command in a session of its own, so that no process of it is missed."""
    command = [
        sys.executable,
        "-m",
        "shards_tools.cli",
        "make",
        str(raw),
        str(out),
        "--size",
        "32",
        "--users-per-shard",
        "50",
    ]
    return subprocess.Popen(
        [*command, "--workers", "2", *options],
        cwd=REPOSITORY,
        stdout=output,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def has_begun(out: Path, records: int) -> bool:
    """Whether the packer is at work and has finished at least so many item shards."""
    return (out / "_work" / "staging").exists() and len(
        list((out / "_work").glob("items-*.json"))
    ) >= records


def is_gone(session: int) -> bool:
    """Whether no process of the session runs."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            return False
    return True


def wait_for(condition: Callable[[], object], timeout_s: float = 120) -> None:
    """Waits until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def tree(out: Path) -> dict[str, bytes]:
    """Every file by its path."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def data_set(out: Path) -> dict[str, bytes]:
    """Every file of a data set, without the work folder."""
    return {path: content for path, content in tree(out).items() if not path.startswith("_work/")}


class Pipe:
    """A video of a raw folder turned into a named pipe: who decodes it waits there."""

    def __init__(self, video: Path) -> None:
        self.path, self.content = video, video.read_bytes()
        video.unlink()
        os.mkfifo(video)

    @contextmanager
    def reader(self) -> Iterator[int]:
        """The process that waits for the video; where it still waits at the end, the video is empty."""
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
        except OSError:  # nobody reads yet
            return False

    def _readers(self) -> list[int]:
        found = []
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            try:
                if int(link.parts[2]) != os.getpid() and os.readlink(link) == str(self.path):
                    found.append(int(link.parts[2]))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def is_left(self) -> bool:
        """Whether no process waits for the video."""
        return not self._readers()

    def kill(self, victim: Callable[[int], int] = lambda reader: reader) -> None:
        """Kills the process that waits for the video, or another that is found from it, and sees the waiting one gone."""
        with self.reader() as reader:
            killed = victim(reader)
            os.kill(killed, signal.SIGKILL)
            if killed != reader:  # which would find the video empty
                wait_for(lambda: reader not in self._readers())
        # not before the pipe is let go: who tries the video next must not find it empty either
        wait_for(lambda: reader not in self._readers())

    def give(self) -> None:
        """Lets the process that waits have the video."""
        with self.reader(), open(self.path, "wb") as pipe:
            pipe.write(self.content)


def parent_of(process: int) -> int:
    """The process that started another."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
