"""Raw folders in MicroLens' layout: interactions, titles, likes and views, and where the media are.

The folder is local or on any storage that fsspec lists. MicroLens-50K, 100K, 1M and the full set differ in their names and
sizes only:

    <name>_pairs.tsv        user<TAB>item item ...        or <name>_pairs.csv   user,item,timestamp
    <name>_titles.csv       item,title                    with or without a header
    <name>_likes_and_views.txt  item<TAB>likes<TAB>views
    <name>_videos/ <name>_covers/ <name>_audios/          one file per item, named by its id
"""

from __future__ import annotations

import csv
import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any, TextIO

import numpy as np

from mlrec import storage
from mlrec.data.format import ORACLE_FILE
from shards_tools.listing import Entry, list_folder
from shards_tools.split import Sequences
from shards_tools.tables import lines, open_table, open_text


@dataclass(frozen=True)
class Interactions:
    """All users' interactions with raw item ids."""

    sequences: Sequences
    """Its items are positions in `raw_ids`, from 0."""
    raw_ids: list[str]


def number_items(interactions: Interactions) -> Interactions:
    """The same with the items that occur, in the order of their raw ids, numerically where all are whole numbers.

    Ids of the catalogue are these positions plus 1.
    """
    codes = np.unique(interactions.sequences.items)
    raw_ids = [interactions.raw_ids[code] for code in codes]
    numeric = all(raw_id.isdecimal() for raw_id in raw_ids)
    order = sorted(range(len(codes)), key=lambda at: (int(raw_ids[at]), raw_ids[at]) if numeric else (0, raw_ids[at]))
    position = np.zeros(len(interactions.raw_ids), dtype=np.int32)
    position[codes[order]] = np.arange(len(order))
    sequences = replace(interactions.sequences, items=position[interactions.sequences.items])
    return Interactions(sequences, [raw_ids[at] for at in order])


Reader = Callable[[str], Interactions]
"""Takes the URL of a file."""


@dataclass(frozen=True)
class RawFolder:
    """URLs of the parts of a raw folder; None where there is no such part."""

    root: str
    pairs: str
    read_pairs: Reader
    titles: str | None
    likes_and_views: str | None
    videos: str | None
    covers: str | None
    audio: str | None
    oracle: str | None
    """Reference results that a synthetic folder brings along."""

    @property
    def name(self) -> str:
        """The name of the data set, from that of its interactions."""
        return PurePosixPath(self.pairs).stem.removesuffix("pairs").rstrip("_-") or PurePosixPath(self.root).name


def open_raw(root: str) -> RawFolder:
    """Finds the parts of the raw folder at the URL `root`.

    Raises:
        ValueError: it is no folder, has no interactions, or a part is there more than once.
    """
    entries = list_folder(root)
    if not entries and not (storage.is_local(root) and storage.local_path(root).is_dir()):
        raise ValueError(f"{root} is not a folder; give the folder with MicroLens' raw files")

    def only(pattern: str, is_folder: bool = False) -> str | None:
        found = [entry for entry in entries if fnmatchcase(entry.name, pattern) and entry.is_folder == is_folder]
        if len(found) > 1:
            names = ", ".join(entry.name for entry in found)
            raise ValueError(f"{root} holds {len(found)} of {pattern}: {names}; leave one of them in the folder")
        return found[0].url if found else None

    found = [(url, reader) for pattern, reader in READERS.items() if (url := only(pattern)) is not None]
    if not found:
        raise ValueError(f"{root} holds no interactions; expected {' or '.join(READERS)}")
    pairs, reader = found[0]
    titles, likes_and_views = only("*title*.csv"), only("*likes_and_views*.txt")
    videos, covers, audio = (only(f"*{word}*", is_folder=True) for word in ("video", "cover", "audio"))
    return RawFolder(root, pairs, reader, titles, likes_and_views, videos, covers, audio, only(ORACLE_FILE))


def read_pairs_tsv(url: str) -> Interactions:
    """Lines of `user<TAB>item item ...`, oldest first, without times.

    Raises:
        ValueError: a line is not of this form.
    """
    codes: dict[str, int] = {}
    users: list[str] = []
    lengths: list[int] = []
    items = array("i")  # a list would take 8 times as much for a billion interactions
    with open_text(url) as file:
        for number, line in lines(file):
            user, tab, rest = line.partition("\t")
            run = rest.split()
            if not tab or not user.strip() or not run:
                raise ValueError(f"{url}, line {number}: expected user<TAB>item item ..., found {line[:60]!r}")
            users.append(user.strip())
            items.extend([codes.setdefault(item, len(codes)) for item in run])
            lengths.append(len(run))
    offsets = np.cumsum([0, *lengths])
    sequences = Sequences(_user_ids(users, url), offsets, np.array(items, dtype=np.int32))
    return Interactions(sequences, list(codes))


def read_pairs_csv(url: str) -> Interactions:
    """Rows of `user,item,timestamp`, with or without a header; a user's rows are sorted by time, equal times in file order.

    Users stand in the order of their first rows.

    Raises:
        ValueError: a row is not of this form.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    pa.enable_signal_handlers(False)  # arrow's own lose a Ctrl-C that comes as it finishes

    columns = {"user": pa.string(), "item": pa.string(), "timestamp": pa.int64()}
    with open_text(url) as file:
        has_header = not file.readline().split(",")[-1].strip().isdecimal()
    try:
        with open_table(url) as stream:
            table = pa_csv.read_csv(
                stream,
                pa_csv.ReadOptions(column_names=list(columns), skip_rows=int(has_header)),
                convert_options=pa_csv.ConvertOptions(column_types=columns),
            )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{url}: expected rows of user,item,timestamp with whole timestamps: {error}") from error
    if table["timestamp"].null_count:
        raise ValueError(f"{url}: {table['timestamp'].null_count} rows have no timestamp; give every row one")
    (user_codes, users), (item_codes, raw_ids) = (_encode(table[name].combine_chunks()) for name in ("user", "item"))
    times = table["timestamp"].to_numpy()
    order = np.lexsort((times, user_codes))  # stable
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user_codes, minlength=len(users)))])
    sequences = Sequences(_user_ids(users, url), offsets, item_codes[order].astype(np.int32), times[order])
    return Interactions(sequences, raw_ids)


def _encode(column: Any) -> tuple[np.ndarray, list[str]]:
    encoded = column.dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


READERS: dict[str, Reader] = {"*pairs.csv": read_pairs_csv, "*pairs.tsv": read_pairs_tsv}
"""By the name of the file; where a folder has several, the first here is read: the .csv has times."""


def _user_ids(users: list[str], url: str) -> np.ndarray:
    """Int64 user ids: the raw ones where all are whole numbers, else positions from 1."""
    if len(set(users)) != len(users):
        raise ValueError(f"{url}: user {Counter(users).most_common(1)[0][0]!r} has several lines; join them to one")
    if all(user.isdecimal() and len(user) < 19 for user in users):  # below 10**18 fits int64
        return np.array(users, dtype=np.int64)
    return np.arange(1, len(users) + 1)


def read_titles(url: str | None, raw_ids: set[str]) -> dict[str, str]:
    """Titles of the items among `raw_ids`.

    Raises:
        ValueError: the file is not UTF-8, or a quoted field in it is not closed.
    """
    titles: dict[str, str] = {}
    if url is None:
        return titles
    with open_text(url) as file:
        for row in _title_rows(file, url, raw_ids):
            # a header's first cell is no item; a title with bare commas spreads over several cells
            if row and row[0].strip() in raw_ids:
                titles[row[0].strip()] = ",".join(row[1:]).strip()
    return titles


def _title_rows(file: TextIO, url: str, raw_ids: set[str]) -> Iterator[list[str]]:
    """The rows of a titles file.

    A quote that nothing closes takes in all rows up to the next quote: a line that begins with an item, within a row, tells it.
    """
    first, last = 1, 0  # lines of the row that is being read

    def unclosed(reason: str) -> ValueError:
        return ValueError(
            f"{url}, line {first}: the row that begins here has a quote that is not closed ({reason}); close it there, or "
            'double it ("") where it belongs to the title'
        )

    def lines_read() -> Iterator[str]:
        nonlocal last
        for line in file:
            last += 1
            item, comma, _ = line.partition(",")
            if last > first and comma and item.strip().strip('"') in raw_ids:
                raise unclosed(f"line {last} with item {item.strip()} would be part of its title")
            yield line

    try:
        for row in csv.reader(lines_read()):
            yield row
            first = last + 1
    except csv.Error as error:
        raise unclosed(str(error)) from error


def read_likes_and_views(url: str | None) -> dict[str, tuple[int, int]]:
    """Likes and views by raw item id.

    Raises:
        ValueError: a line is not `item<TAB>likes<TAB>views`.
    """
    counts: dict[str, tuple[int, int]] = {}
    if url is None:
        return counts
    with open_text(url) as file:
        for number, line in lines(file):
            try:
                item, likes, views = line.split()
                counts[item] = (int(likes), int(views))
            except ValueError as error:
                raise ValueError(f"{url}, line {number}: expected item<TAB>likes<TAB>views, found {line[:60]!r}") from error
    return counts


def media_files(folder: str | None) -> dict[str, Entry]:
    """The files of a media folder by raw item id, which is their name without suffix."""
    if folder is None:
        return {}
    files = [entry for entry in list_folder(folder) if not entry.is_folder and not entry.name.startswith(".")]
    return {PurePosixPath(entry.name).stem: entry for entry in reversed(files)}


def _sha256(url: str) -> str:
    with open_table(url, "hashing") as table:
        return hashlib.file_digest(table, "sha256").hexdigest()


def fingerprint(raw: RawFolder) -> str:
    """SHA-256 over the tables' content and the name, size and version of each media file."""
    digest = hashlib.sha256()
    for url in (raw.pairs, raw.titles, raw.likes_and_views, raw.oracle):
        digest.update(_sha256(url).encode() if url else b"none")
    for folder in (raw.videos, raw.covers, raw.audio):
        for name, file in sorted(media_files(folder).items()):
            digest.update(f"{name} {file.size} {file.version}\n".encode())
        digest.update(b"end")
    return digest.hexdigest()
