"""Where a command may write: nobody else's files are replaced, and its own output may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from mlrec import storage
from mlrec.runtime.printable import printable

_PASSED_OVER = (".*", "*.partial")
"""Hidden files, such as .DS_Store and .gitkeep, and what an interrupted write leaves."""
_MAX_NAMED = 3


def check_own_folder(
    url: str, command: str, names: Sequence[str], is_own: Callable[[], bool]
) -> None:
    """Refuse a folder that holds anything but the output of a command.

    A missing or empty folder passes, and hidden files are passed over.

    Args:
        url: a folder, or a prefix of object storage.
        command: such as "mlrec export", for messages.
        names: what the command writes directly into the folder, as patterns of fnmatch; folders included.
        is_own: tells from the content of such files whether the command wrote them; not called without a file.

    Raises:
        ValueError: it is a file, or holds anything else; the message names what.
    """
    if storage.is_local(url) and storage.local_path(url).is_file():
        raise ValueError(
            f"{url} is a file, and {command} writes into a folder. Choose another place"
        )
    present = [name for name in _names_in(url) if not _matches(name, _PASSED_OVER)]
    foreign = [name for name in present if not _matches(name, names)]
    if present and not foreign and not is_own():
        foreign = present
    check_replaceable(url, foreign, command)


def check_replaceable(url: str, foreign: Sequence[str], command: str) -> None:
    """Refuse to write into a folder in which files of others are in the way.

    Raises:
        ValueError: `foreign` has a name.
    """
    if foreign:
        shown = ", ".join(printable(name, 60) for name in foreign[:_MAX_NAMED])
        more = f" and {len(foreign) - _MAX_NAMED:,} more" if len(foreign) > _MAX_NAMED else ""
        raise ValueError(
            f"{url} holds {shown}{more}, which {command} did not write, so nothing is written there. "
            "Choose another place, or move these away first"
        )


def _names_in(url: str) -> list[str]:
    paths = [str(entry["name"]).rstrip("/") for entry in storage.list_folder(url)]
    # some storages keep an empty object that stands for the folder itself
    return sorted(PurePosixPath(path).name for path in paths if not url.rstrip("/").endswith(path))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
