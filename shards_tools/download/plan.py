"""What to download, how large it is, and what is complete already."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Literal, NamedTuple

from mlrec.runtime.printable import counted
from mlrec.runtime.units import megabytes_or_gigabytes as in_words
from shards_tools.download.choice import choose, files_below, published_entries
from shards_tools.download.fetch import Partial
from shards_tools.download.http import RefusedError, UnreachableError
from shards_tools.download.listing import Entry, size_of
from shards_tools.download.manifest import Manifest
from shards_tools.download.published import (
    CHECKSUM_NAME,
    PARTS,
    Dataset,
    Part,
    archive_of,
    part_of,
)
from shards_tools.download.verify import Checksum, read_checksums

MAX_NAME_BYTES = 255 - len(".part.json")
"""Longest name of a file whose part in arrival has a name that file systems take."""
_TOO_LONG = f"its name is longer than {MAX_NAME_BYTES} bytes, which file systems do not take"
State = Literal["complete", "unverified", "missing"]
"""Of a local file. Unverified: of the published size, but its content has to be read."""


class RemoteFile(NamedTuple):
    """A published file."""

    path: str
    """Path relative to the folder it is downloaded to."""
    part: Part
    url: str
    size: int
    """Bytes; 0 where the server does not tell."""
    is_exact: bool
    """Whether the size is exact."""


@dataclass(frozen=True)
class Plan:
    """What to download."""

    dataset: Dataset
    base_url: str
    folder: Path
    files: list[RemoteFile]
    checksums: dict[str, Checksum]
    """Published checksums by path."""
    left_out: list[str]
    """Published names that are not downloaded, with the reason."""
    states: dict[str, State]
    """State of the local file by path."""
    missing_bytes: int
    """Bytes to download."""
    failures: dict[str, str]
    """Reasons of files that cannot be downloaded, by path."""

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)

    @property
    def free_bytes(self) -> int:
        """Free space where the files go."""
        place = self.folder.absolute()
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    @cached_property
    def split_archives(self) -> list[RemoteFile]:
        """The last parts of split archives, whose names end in .zip."""
        archives = [(file, archive_of(file.path)) for file in self.files]
        stems = {archive.stem for _, archive in archives if archive and archive.number}
        return [
            file
            for file, archive in archives
            if archive and not archive.number and archive.stem in stems
        ]

    @cached_property
    def split_stems(self) -> frozenset[str]:
        """Names of the split archives without their suffixes."""
        return frozenset(file.path.removesuffix(".zip") for file in self.split_archives)

    def check_disk(self) -> None:
        """Check that there is room for what is missing.

        Raises:
            ValueError: there is not.
        """
        too_few = self.missing_bytes - self.free_bytes
        if too_few > 0:
            raise ValueError(
                f"{self.folder} needs {in_words(self.missing_bytes)} more, and its disk has "
                f"{in_words(self.free_bytes)} free, {too_few:,} bytes "
                "too few. Free space, choose another folder, or "
                "choose fewer parts with --only"
            )

    def describe(self) -> list[str]:
        """Return the plan in lines."""
        lines = [f"{self.dataset.name} from {self.base_url} to {self.folder}"]
        for part in PARTS:
            files = [file for file in self.files if file.part == part]
            if files:
                size = in_words(sum(file.size for file in files))
                lines.append(f"{part:<9}{counted(len(files), 'file')}, {size}")
        complete = [file for file in self.files if self.states[file.path] == "complete"]
        lines.append(
            f"in all   {counted(len(self.files), 'file')}, {in_words(self.num_bytes)}; "
            f"{len(complete):,} complete already, {in_words(self.missing_bytes)} to download, "
            f"{in_words(self.free_bytes)} free"
        )
        if self.left_out:
            lines.append(f"left out {'; '.join(self.left_out)}")
        return lines


def make_plan(
    dataset: Dataset,
    base_url: str,
    folder: Path,
    parts: Collection[Part],
    manifest: Manifest,
    workers: int,
    stopping: Event,
) -> Plan:
    """Ask the server what it has, and return what to download.

    Raises:
        ValueError: the server has no data set there, or lacks a part that was asked for, or a
            local file of another size is in the way.
        RuntimeError: the server cannot be reached.
    """
    try:
        chosen, left_out = choose(published_entries(dataset, base_url, stopping), parts)
        with ThreadPoolExecutor(workers) as pool:
            listed = list(pool.map(lambda entry: files_below(entry, stopping), chosen))
            failures: dict[str, str] = {}
            checksum_files: list[tuple[str, Entry]] = []
            data_files: list[tuple[str, Entry]] = []
            for path, entry in chain.from_iterable(listed):
                if _is_too_long(path):
                    failures[path] = _TOO_LONG
                elif CHECKSUM_NAME.fullmatch(entry.name):
                    checksum_files.append((path, entry))
                else:
                    data_files.append((path, entry))
            checksums: dict[str, Checksum] = {}
            for path, entry in checksum_files:
                checksums |= read_checksums(path, entry.url, stopping)
            files = list(
                pool.map(lambda file: _sized(file[0], file[1], folder, stopping), data_files)
            )
    except UnreachableError as error:
        raise RuntimeError(
            f"{base_url} cannot be reached ({error}). Check the connection, or pass the URL of the "
            "data set's folder with --base-url"
        ) from error
    _check_parts(files, parts, base_url)
    states = {file.path: _state(file, folder, manifest) for file in files}
    missing = [file for file in files if states[file.path] == "missing"]
    missing_bytes = 0
    for file in missing:
        missing_bytes += max(0, file.size - Partial(folder / file.path).size)
    return Plan(
        dataset, base_url, folder, files, checksums, left_out, states, missing_bytes, failures
    )


def _is_too_long(path: str) -> bool:
    return max(len(os.fsencode(name)) for name in path.split("/")) > MAX_NAME_BYTES


def _sized(path: str, entry: Entry, folder: Path, stopping: Event) -> RemoteFile:
    """Return a file with its size, which the server is asked for where it matters."""
    size = entry.size
    is_exact = entry.is_exact and size is not None
    # The files of a folder may be tens of thousands. Their rounded sizes do for a plan, except
    # where a local file is compared.
    is_compared = "/" not in path or (folder / path).exists()
    if size is None or (is_compared and not is_exact):
        try:
            size = size_of(entry.url, stopping)
            is_exact = size is not None
        except UnreachableError:
            raise
        except RefusedError:
            # the download will say why
            pass
    return RemoteFile(path, part_of(path.split("/")[0]), entry.url, size or 0, is_exact)


def _check_parts(files: Iterable[RemoteFile], parts: Collection[Part], base_url: str) -> None:
    """Check that the server has each part.

    Raises:
        ValueError: it lacks one.
    """
    present = {file.part for file in files}
    absent = [part for part in PARTS if part in parts and part not in present]
    if absent:
        others = ",".join(part for part in PARTS if part in parts and part in present)
        raise ValueError(
            f"{base_url} has no {', '.join(absent)}. Download the rest with --only {others}, or "
            "pass another server with --base-url"
        )


def _state(file: RemoteFile, folder: Path, manifest: Manifest) -> State:
    """Return the state of the local file.

    Raises:
        ValueError: the local file has another size, and this program has not written it.
    """
    local = folder / file.path
    if not local.exists():
        return "missing"
    status = local.stat()
    record = manifest.files.get(file.path)
    if record is not None:
        is_changed = file.is_exact and file.size != record.size
        if is_changed or status.st_size != record.size:
            return "missing"
        return "complete" if status.st_mtime_ns == record.mtime_ns else "unverified"
    if file.is_exact and status.st_size == file.size:
        return "unverified"
    published = f"{file.size:,}" if file.is_exact else "an unknown number"
    raise ValueError(
        f"{local} has {status.st_size:,} bytes, and the published file has {published}. Move it "
        "away, or remove it to download it"
    )
