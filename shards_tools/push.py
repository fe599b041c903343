"""Copy a data set to another place.

Each file is verified on its way. dataset.json is written last, so that it exists only when every
other file is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from mlrec import storage
from mlrec.data.format import DATASET_FILE, DatasetInfo, FileInfo, read_dataset_info
from mlrec.runtime.printable import counted
from shards_tools.pack.output import SETTINGS_FILE, Output, open_output
from shards_tools.raw.listing import WORK_FOLDER

PUSH_FILE = "push.json"
"""File in the work folder with the fingerprint of the data set, while a push is incomplete."""


def push(source: str, target: str) -> Iterator[FileInfo]:
    """Copy the data set at `source` with its settings to `target`, and yield each copied file.

    A push that was stopped continues.

    Raises:
        ValueError: there is no data set, or another one is at `target`.
        RuntimeError: a file of the source does not have the sha256 that its dataset.json names.
    """
    info = read_dataset_info(source)
    sizes = storage.list_files(target)
    if DATASET_FILE in sizes and read_dataset_info(target).fingerprint != info.fingerprint:
        raise ValueError(
            f"{target} holds another data set. Choose another place, or remove it first"
        )
    with open_output(target) as output:
        is_resumed = _claim(source, info, output, sizes)
        for file in info.files:
            if not _is_copied(file, output, sizes, is_resumed):
                staged = output.staging / "file"
                storage.download(storage.join(source, file.path), staged, file.sha256)
                output.publish(staged, file.path)
            yield file
        output.write(DATASET_FILE, info.to_bytes())
        output.clean()


def _is_copied(file: FileInfo, output: Output, sizes: Mapping[str, int], is_resumed: bool) -> bool:
    """Return whether a file is already at the target.

    Args:
        sizes: Bytes of the files at the target, by path.
        is_resumed: Whether an incomplete push is resumed.
    """
    if sizes.get(file.path) != file.size:
        return False
    # A push publishes complete files only, so that the size is enough for a file of its own. For
    # all other files it is not: tar files are padded, and shards of different data sets often have
    # the same size.
    if is_resumed:
        return True
    return storage.sha256_of(storage.join(output.url, file.path)) == file.sha256


def _claim(source: str, info: DatasetInfo, output: Output, sizes: Mapping[str, int]) -> bool:
    """Record that a push is under way, and return whether it resumes an incomplete one.

    Args:
        sizes: Bytes of the files at the target, by path.

    Raises:
        ValueError: another data set is under way here, or the copy would replace other files.
    """
    push_record = json.dumps({"fingerprint": info.fingerprint}).encode()
    recorded_push = output.read_record(PUSH_FILE)
    source_settings = _read_settings(source)
    recorded_settings = output.read_record(SETTINGS_FILE)
    is_other_push = recorded_push is not None and recorded_push != push_record
    is_other_packing = recorded_settings is not None and recorded_settings != source_settings
    if is_other_push or is_other_packing:
        raise ValueError(
            f"{output.url} holds another data set that was begun. "
            "Choose another place, or remove it first"
        )
    is_resumed = recorded_push is not None
    # Files of other sizes belong to this data set only if it is complete or was pushed here.
    if not is_resumed and DATASET_FILE not in sizes:
        _check_free(info, output, sizes)
    output.put_record(PUSH_FILE, push_record)
    if source_settings is not None:
        # repair needs them at the copy too
        output.put_record(SETTINGS_FILE, source_settings)
    return is_resumed


def _read_settings(source: str) -> bytes | None:
    """Return the settings file of the data set at `source`; None if it has none."""
    url = storage.join(source, WORK_FOLDER, SETTINGS_FILE)
    return storage.read_bytes(url) if storage.exists(url) else None


def _check_free(info: DatasetInfo, output: Output, sizes: Mapping[str, int]) -> None:
    """Check that the copy would replace no file of another size.

    Raises:
        ValueError: it would.
    """
    foreign = []
    for file in info.files:
        if sizes.get(file.path, file.size) != file.size:
            foreign.append(file.path)
    if foreign:
        raise ValueError(
            f"{output.url} holds {counted(len(foreign), 'file')} that the copy would replace, "
            f"such as {foreign[0]}, and no push has begun there. "
            "Choose another place, or remove them"
        )
