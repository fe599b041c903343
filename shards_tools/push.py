"""Copies a data set to another place: each file verified on its way, dataset.json last, so that it exists when all of it does."""

from __future__ import annotations

from collections.abc import Iterator

from mlrec import storage
from mlrec.data.format import DATASET_FILE, FileInfo, read_dataset_info
from shards_tools.output import open_output


def push(source: str, target: str) -> Iterator[FileInfo]:
    """Copies the data set at `source` to `target`; yields each file when it is there.

    A push that was stopped goes on: files are published when whole, so one of the right size is not copied again.

    Raises:
        ValueError: there is no data set, or another one stands at `target`.
        RuntimeError: a file of the source does not have the sha256 that its dataset.json names.
    """
    info = read_dataset_info(source)
    there = storage.list_files(target)
    if DATASET_FILE in there and read_dataset_info(target).fingerprint != info.fingerprint:
        raise ValueError(f"{target} holds another data set; choose another place, or remove it first")
    with open_output(target) as output:
        for file in info.files:
            if there.get(file.path) != file.size:
                staged = output.staging / "file"
                storage.download(storage.join(source, file.path), staged, file.sha256)
                output.publish(staged, file.path)
            yield file
        output.put(DATASET_FILE, info.to_bytes())
