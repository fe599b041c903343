"""Folders a command may write to: it replaces its own output, and no other files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from mlrec import storage
from mlrec.runtime.printable import printable

_IGNORED_PATTERNS = (".*", "*.partial")
"""Hidden files such as .DS_Store and .gitkeep, and leftovers of interrupted writes."""
_MAX_NAMES = 3
_MAX_NAME_CHARACTERS = 60


def check_own_folder(
    url: str, command: str, names: Sequence[str], is_own: Callable[[], bool]
) -> None:
    """Refuse a folder that holds anything but the output of a command.

    A missing or empty folder passes, and hidden files are ignored.

    Args:
        url: a folder, or a prefix of object storage.
        command: name for messages, such as "mlrec export".
        names: files and folders the command writes directly into the folder, as fnmatch patterns.
        is_own: returns from the content of such files whether the command wrote them. It is not
            called without a file.

    Raises:
        ValueError: the folder is a file, or holds other files; the message names them.
    """
    if storage.is_local(url) and storage.local_path(url).is_file():
        raise ValueError(
            f"{url} is a file, but {command} writes into a folder. Choose another place"
        )
    present = [name for name in _names_in(url) if not _matches(name, _IGNORED_PATTERNS)]
    foreign = [name for name in present if not _matches(name, names)]
    # Files of the right names may still be somebody else's, such as a metrics.jsonl.
    if present and not foreign and not is_own():
        foreign = present
    check_replaceable(url, foreign, command)


def check_replaceable(url: str, foreign: Sequence[str], command: str) -> None:
    """Refuse to write into a folder that holds files of others.

    Args:
        foreign: names of these files.

    Raises:
        ValueError: `foreign` is not empty.
    """
    if not foreign:
        return
    shown = ", ".join(printable(name, _MAX_NAME_CHARACTERS) for name in foreign[:_MAX_NAMES])
    more = f" and {len(foreign) - _MAX_NAMES:,} more" if len(foreign) > _MAX_NAMES else ""
    raise ValueError(
        f"{url} holds {shown}{more}, which {command} did not write, so nothing is written there. "
        "Choose another place, or move these away first"
    )


def _names_in(url: str) -> list[str]:
    names = []
    for entry in storage.list_folder(url):
        path = str(entry["name"]).rstrip("/")
        # Some storages keep an empty object that represents the folder itself.
        if not url.rstrip("/").endswith(path):
            names.append(PurePosixPath(path).name)
    return sorted(names)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
