"""Arguments and results that several commands share."""

from __future__ import annotations

import os
from typing import Any

from mlrec.config.arguments import Parser, whole_number
from mlrec.data.format import DatasetInfo


def add_raw(parser: Parser) -> None:
    """Add RAW, a folder of raw files."""
    parser.add_argument(
        "raw",
        metavar="RAW",
        help="folder or fsspec URL with raw files in MicroLens' layout",
    )


def add_workers(parser: Parser) -> None:
    """Add --workers, the number of processes."""
    # os.cpu_count is None on systems that do not say
    cores = os.cpu_count() or 1
    parser.add_argument(
        "--workers",
        type=whole_number(),
        default=cores,
        metavar="N",
        help="worker processes (default: the CPU cores, %(default)s)",
    )


def bytes_of(info: DatasetInfo) -> int:
    """Return the size of all files of a data set but dataset.json."""
    return sum(file.size for file in info.files)


def file_count(info: DatasetInfo) -> int:
    """Return the number of files of a data set, dataset.json included."""
    # dataset.json does not list itself
    return len(info.files) + 1


def document_of(url: str, info: DatasetInfo) -> dict[str, Any]:
    """Return the JSON document that describes a data set at `url`."""
    return {
        "url": url,
        "name": info.name,
        "fingerprint": info.fingerprint,
        "counts": info.counts,
        "remarks": info.remarks,
        "files": file_count(info),
        "bytes": bytes_of(info),
    }
