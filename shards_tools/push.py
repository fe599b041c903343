"""Copies a data set to another place: each file verified on its way, dataset.json last, so that it exists when all of it does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from mlrec import storage
from mlrec.data.format import DATASET_FILE, DatasetInfo, FileInfo, read_dataset_info
from mlrec.runtime.printable import counted
from shards_tools.pack.output import SETTINGS_FILE, WORK_FOLDER, Output, open_output

PUSH_FILE = "push.json"
"""In the work folder of a place that a push has begun: the fingerprint of what is pushed. It goes when the push is complete."""


def push(source: str, target: str) -> Iterator[FileInfo]:
    """Copies the data set at `source`, and how it was made, to `target`; yields each file when it is there.

    A push that was stopped goes on. A file of the right size is copied again unless it is whole: of what a push put there
    itself the size tells, since files are published when whole; of what something else put there, or of a push that was
    complete, only the sha256 does (tar files are padded, so shards of other data sets often have the same size).

    Raises:
        ValueError: there is no data set, or another one stands or is begun at `target`.
        RuntimeError: a file of the source does not have the sha256 that its dataset.json names.
    """
    info = read_dataset_info(source)
    there = storage.list_files(target)
    if DATASET_FILE in there and read_dataset_info(target).fingerprint != info.fingerprint:
        raise ValueError(
            f"{target} holds another data set; choose another place, or remove it first"
        )
    with open_output(target) as output:
        goes_on = _claim(source, info, output, there)
        for file in info.files:
            if not (there.get(file.path) == file.size and (goes_on or _is_whole(output, file))):
                staged = output.staging / "file"
                storage.download(storage.join(source, file.path), staged, file.sha256)
                output.publish(staged, file.path)
            yield file
        output.write(DATASET_FILE, info.to_bytes())
        output.clean()


def _claim(source: str, info: DatasetInfo, output: Output, sizes: Mapping[str, int]) -> bool:
    """Whether a push of this very data set was stopped here; records that one is begun.

    Args:
        sizes: of the files at the target, by path.

    Raises:
        ValueError: something else is begun here, or files of other sizes stand in the way.
    """
    ours = {"fingerprint": info.fingerprint}
    begun = dict(output.read_records(PUSH_FILE)).get(PUSH_FILE)
    settings = storage.join(source, WORK_FOLDER, SETTINGS_FILE)
    made_with = storage.read_bytes(settings) if storage.exists(settings) else None
    there = dict(output.read_records(SETTINGS_FILE)).get(SETTINGS_FILE)
    if (begun is not None and begun != json.dumps(ours).encode()) or (
        there is not None and there != made_with
    ):
        raise ValueError(
            f"{output.url} holds another data set that was begun; choose another place, or remove it first"
        )
    foreign = [file.path for file in info.files if sizes.get(file.path, file.size) != file.size]
    if foreign and begun is None and DATASET_FILE not in sizes:
        raise ValueError(
            f"{output.url} holds {counted(len(foreign), 'file')} that the copy would replace, such as {foreign[0]}, and no push "
            "has begun there; choose another place, or remove them"
        )
    output.put_record(PUSH_FILE, json.dumps(ours).encode())
    if made_with is not None:
        output.put_record(SETTINGS_FILE, made_with)  # repair needs it
    return begun is not None


def _is_whole(output: Output, file: FileInfo) -> bool:
    return storage.sha256_of(storage.join(output.url, file.path)) == file.sha256
