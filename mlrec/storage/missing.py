"""The message about a folder that is not there, or is not what a command needs."""

from __future__ import annotations

import difflib
from pathlib import Path

from mlrec.storage.filesystems import is_local, local_path


def why_absent(url: str, kind: str, file: str, remedy: str) -> str:
    """Return why there is no `kind` at a URL, with a folder that may be meant or the remedy.

    Args:
        kind: a noun with its article, such as "a data set".
        file: name of the file that a folder of this kind has.
        remedy: sentence without a full stop, for folders without a similar name.
    """
    if not is_local(url):
        return f"There is no {kind.partition(' ')[2]} at {url}: {file} is missing. {remedy}"
    if local_path(url).exists():
        return f"{url} is not {kind}: it has no {file}. {remedy}"
    near = _similar_folder(url, file)
    return f"{url} is missing. " + (f"Did you mean {near}?" if near else remedy)


def _similar_folder(url: str, file: str) -> str:
    """Return the folder next to `url` that has the file and the most similar name; "" if none."""
    path = local_path(url)
    try:
        names = [each.parent.name for each in path.parent.glob(f"*/{file}")]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return str(Path(url).with_name(near[0])) if near else ""
