"""Features that are packed with the items: files of vectors, joined by raw id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from mlrec import storage
from mlrec.data.features.files import FORMATS, ending_of, read_features
from mlrec.data.features.ids_files import find_ids_file
from mlrec.data.features.info import INFO_FILE, NAME
from mlrec.data.features.join import ItemIds
from mlrec.data.features.vectors import Features
from mlrec.data.format.dataset_info import MAX_FEATURES
from mlrec.runtime.printable import brief, counted


@dataclass(frozen=True)
class ItemFeatures:
    """Features of a data set's items."""

    widths: dict[str, int]
    """Number of values per vector, by name in alphabetical order."""
    vectors_of: list[dict[str, np.ndarray]]
    """Vectors of each item by name, float32 [width]. A name is missing where an item has none."""
    sources: list[str]
    """What was packed from which file, a line each."""
    remarks: list[str]
    """Rules and numbers of the join, a sentence each. Files are named without their folder."""


def parse_sources(arguments: Iterable[str]) -> dict[str, str]:
    """Return the files of --features NAME=FILE, by name in alphabetical order.

    Raises:
        ValueError: an argument has another form, or a name occurs twice.
    """
    sources: dict[str, str] = {}
    for argument in arguments:
        name, _, url = argument.partition("=")
        if not NAME.fullmatch(name) or not url:
            raise ValueError(
                f"--features {argument} is not NAME=FILE, with letters, digits, _ and - in NAME"
            )
        if name in sources:
            raise ValueError(f"--features gives {name} twice. Give each its own name")
        sources[name] = url
    if len(sources) > MAX_FEATURES:
        raise ValueError(f"--features occurs {len(sources)} times, at most {MAX_FEATURES} fit")
    return dict(sorted(sources.items()))


def digest_of(sources: Mapping[str, str]) -> str:
    """Return the SHA-256 of each source as NAME=DIGEST, joined by commas; "" without sources.

    Raises:
        ValueError: a source is missing.
        RuntimeError: the storage of a source cannot be opened.
    """
    digests = []
    for name, url in sources.items():
        try:
            # the source before its ids file, so that an error names the URL on the command line
            joined = storage.sha256_of(_own_file(url))
            joined += "".join(map(storage.sha256_of, files_of(url)[1:]))
        except OSError as error:
            raise ValueError(
                f"--features {name}={url}: {_reason(url, error)}. Give a file that ends in "
                f"{', '.join(FORMATS)}, or a folder of mlrec extract"
            ) from error
        digests.append(f"{name}={hashlib.sha256(joined.encode()).hexdigest()}")
    return ",".join(digests)


def _reason(url: str, error: OSError) -> str:
    """Return why a source cannot be read."""
    if not ending_of(url):
        return f"it is no folder with {INFO_FILE}"
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    return f"the file cannot be read ({brief(error)})"


def files_of(url: str) -> list[str]:
    """Return the files that decide on the vectors of a source: its own, and that of its ids."""
    ids_file = find_ids_file(url) if ending_of(url) else None
    return [_own_file(url)] if ids_file is None else [_own_file(url), ids_file]


def _own_file(url: str) -> str:
    # features.json has the digests of the other files of its folder
    return url if ending_of(url) else storage.join(url, INFO_FILE)


def read_item_features(
    sources: Mapping[str, str], raw_ids: Sequence[str], dataset: str
) -> ItemFeatures:
    """Read all sources and join them with the items.

    Args:
        raw_ids: raw ids of the items, in catalogue order.
        dataset: name of the data set, for messages.

    Raises:
        ValueError: a source cannot be read, or has a vector for none of the items.
    """
    joined = ItemFeatures({}, [{} for _ in raw_ids], [], [])
    for name, url in sources.items():
        items = ItemIds(pa.array(raw_ids, pa.string()), dataset, fingerprint="")
        features = read_features(url, items, name)
        _check_one_vector(features, name)
        rows_N = features.rows_of(items, may_miss=True)
        joined.widths[name] = features.width
        for vectors, row in zip(joined.vectors_of, rows_N.tolist(), strict=True):
            if row >= 0:
                vectors[name] = features.vectors_nX[row].astype(np.float32)
        num_items = int((rows_N >= 0).sum())
        joined.sources.append(
            f"features {name}: {num_items:,} of {counted(len(raw_ids), 'item')}, width "
            f"{features.width:,}, from {PurePosixPath(url).name}"
        )
        joined.remarks.extend(_remarks(name, features, items))
    return joined


def _check_one_vector(features: Features, name: str) -> None:
    """Check that items have one vector each, as samples do.

    Raises:
        ValueError: they have several.
    """
    if features.vectors_nX.ndim == 3:
        raise ValueError(
            f"--features {name}={features.url} has {features.vectors_per_item} vectors per item, "
            "and a sample has room for one. Reduce them with mlrec extract --pca, or give the "
            f"folder to runs as item.options.features/{name}.checkpoint"
        )


def _remarks(name: str, features: Features, items: ItemIds) -> list[str]:
    """Return what a data set says about the join of features with its items."""
    folder, separator, _ = features.url.rpartition("/")
    remarks = []
    for remark in features.remarks(items):
        # dataset.json must not depend on the folder that a file was in
        remarks.append(f"features {name}: {remark.replace(folder + separator, '')}")
    return remarks
