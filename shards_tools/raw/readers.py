"""Raw folders in MicroLens' layout: interactions, and where the tables of items and the media are.

The folder is local or on any storage that fsspec lists. MicroLens-50K, 100K, 1M and the full set differ in their names and
sizes only:

    <name>_pairs.tsv        user<TAB>item item ...        or <name>_pairs.csv   user,item,timestamp
    <name>_titles.csv       item,title                    with or without a header
    <name>_likes_and_views.txt  item<TAB>likes<TAB>views
    <name>_videos/ <name>_covers/ <name>_audios/          one file per item, named by its id
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mlrec import storage
from mlrec.data.format import ORACLE_FILE
from mlrec.data.format.sequence_shards import MAX_RAW_USER_BYTES
from mlrec.runtime.printable import brief, counted, printable
from shards_tools.raw.listing import Entry, list_folder
from shards_tools.raw.split import Sequences
from shards_tools.raw.tables import lines, open_table, open_text

if TYPE_CHECKING:
    import pyarrow as pa


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
    order = sorted(
        range(len(codes)),
        key=lambda at: (int(raw_ids[at]), raw_ids[at]) if numeric else (0, raw_ids[at]),
    )
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
        return (
            PurePosixPath(self.pairs).stem.removesuffix("pairs").rstrip("_-")
            or PurePosixPath(self.root).name
        )


def open_raw(root: str) -> RawFolder:
    """Finds the parts of the raw folder at the URL `root`.

    Raises:
        ValueError: it is no folder, has no interactions, or a part is there more than once.
    """
    entries = list_folder(root)
    if not entries and not (storage.is_local(root) and storage.local_path(root).is_dir()):
        raise ValueError(f"{root} is not a folder; give the folder with MicroLens' raw files")

    def only(pattern: str, is_folder: bool = False) -> str | None:
        found = [
            entry
            for entry in entries
            if fnmatchcase(entry.name, pattern) and entry.is_folder == is_folder
        ]
        if len(found) > 1:
            names = ", ".join(entry.name for entry in found)
            raise ValueError(
                f"{root} holds {len(found)} of {pattern}: {names}; leave one of them in the folder"
            )
        return found[0].url if found else None

    found = [
        (url, reader) for pattern, reader in READERS.items() if (url := only(pattern)) is not None
    ]
    if not found:
        raise ValueError(f"{root} holds no interactions; expected {' or '.join(READERS)}")
    pairs, reader = found[0]
    titles, likes_and_views = only("*title*.csv"), only("*likes_and_views*.txt")
    videos, covers, audio = (
        only(f"*{word}*", is_folder=True) for word in ("video", "cover", "audio")
    )
    return RawFolder(
        root, pairs, reader, titles, likes_and_views, videos, covers, audio, only(ORACLE_FILE)
    )


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
                raise ValueError(
                    f"{url}, line {number}: expected user<TAB>item item ..., found {line[:60]!r}"
                )
            users.append(user.strip())
            items.extend([codes.setdefault(item, len(codes)) for item in run])
            lengths.append(len(run))
    offsets = np.cumsum([0, *lengths])
    numbers, raw_users = _user_ids(users, url)
    sequences = Sequences(numbers, offsets, np.array(items, dtype=np.int32), raw_users=raw_users)
    return Interactions(sequences, list(codes))


COLUMNS = ("user", "item", "timestamp")
"""Of a .csv with interactions."""
CSV_BLOCK_BYTES = 16 << 20
"""Parsed at once: each block has a list of the ids that occur in it, and small blocks would have nearly all ids over and over."""


def read_pairs_csv(url: str) -> Interactions:
    """Rows of `user,item,timestamp`, with or without a header; a user's rows are sorted by time, equal times in file order.

    Users stand in the order of their first rows.

    Raises:
        ValueError: a row is not of this form.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    pa.enable_signal_handlers(False)  # arrow's own lose a Ctrl-C that comes as it finishes

    ids = pa.dictionary(
        pa.int32(), pa.string()
    )  # plain strings of a billion rows are more than arrow holds in one piece
    header_rows = _header_rows(url)
    try:
        with open_table(url) as stream:
            table = pa_csv.read_csv(
                stream,
                pa_csv.ReadOptions(
                    column_names=list(COLUMNS), skip_rows=header_rows, block_size=CSV_BLOCK_BYTES
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict(zip(COLUMNS, (ids, ids, pa.int64()), strict=True))
                ),
            )
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{url}: expected rows of user,item,timestamp with whole timestamps: {brief(error)}"
        ) from error
    if table["timestamp"].null_count:
        raise ValueError(
            f"{url}: {table['timestamp'].null_count} rows have no timestamp; give every row one"
        )
    columns = [table[name] for name in COLUMNS]
    del table  # so that a column goes when it is taken out
    user_codes, users = _encode(columns.pop(0), url, "user")
    item_codes, raw_ids = _encode(columns.pop(0), url, "item")
    times = columns.pop(0).to_numpy()
    pa.default_memory_pool().release_unused()  # arrow would keep more than all the rest takes
    order = np.lexsort((times, user_codes))  # stable
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user_codes, minlength=len(users)))])
    numbers, raw_users = _user_ids(users, url)
    return Interactions(
        Sequences(numbers, offsets, item_codes[order], times[order], raw_users), raw_ids
    )


def _header_rows(url: str) -> int:
    """The number of rows before the first interaction, blank ones included.

    Raises:
        ValueError: the first row is neither the header nor an interaction.
    """
    with open_text(url) as file:
        for number, line in lines(file):
            cells = [cell.strip().strip('"') for cell in line.split(",")]
            if tuple(cell.lower() for cell in cells) == COLUMNS:
                return number
            if not re.fullmatch(r"-?\d+", cells[-1]):
                raise ValueError(
                    f"{url}, line {number}: expected the header {','.join(COLUMNS)}, with the columns in this order, or an "
                    f"interaction with a whole timestamp, found {line[:60]!r}"
                )
            break
    return 0


def _encode(column: Any, url: str, kind: str) -> tuple[np.ndarray, list[str]]:
    """Return int32 codes of a column of ids, and the ids without spaces around them, in the order in which they first occur.

    Args:
        kind: "user" or "item", for messages.

    Raises:
        ValueError: some are empty, or different ones are equal without the spaces.
    """
    import pyarrow.compute as pc

    encoded = column.unify_dictionaries().combine_chunks()
    stripped = pc.utf8_trim_whitespace(encoded.dictionary).dictionary_encode()
    codes, ids = encoded.indices.to_numpy(), stripped.dictionary.to_pylist()
    if "" in ids:
        rows = np.count_nonzero(stripped.indices.to_numpy()[codes] == ids.index(""))
        raise ValueError(f"{url}: {rows} rows have no {kind}; give every row one")
    if len(ids) < len(encoded.dictionary):
        raise ValueError(f"{url}: {_merged(encoded.dictionary, stripped.indices.to_numpy(), kind)}")
    return codes, ids


def _merged(spellings: pa.StringArray, codes: np.ndarray, kind: str) -> str:
    """Tell which ids are equal without the spaces around them; `codes` numbers the ids without."""
    is_merged = np.bincount(codes) > 1
    places = np.flatnonzero(codes == np.flatnonzero(is_merged)[0])[:2]
    first, second = (repr(printable(spellings[int(place)].as_py(), 60)) for place in places)
    return (
        f"found {counted(int(is_merged.sum()), f'{kind} id')} with spellings that differ only in the spaces around them, such as "
        f"{first} and {second}. Spaces around ids are removed, which would make them one {kind}. Remove the spaces in the file "
        f"if they are one {kind}, else give them other ids"
    )


READERS: dict[str, Reader] = {"*pairs.csv": read_pairs_csv, "*pairs.tsv": read_pairs_tsv}
"""By the name of the file; where a folder has several, the first here is read: the .csv has times."""


def _user_ids(users: list[str], url: str) -> tuple[np.ndarray, pa.LargeStringArray | None]:
    """Return int64 user ids, and the raw ones where these are something else.

    The numbers are the raw ids where all are different whole numbers, else positions from 1. 007 is the number 7, but no raw id.

    Raises:
        ValueError: a user occurs twice, or an id is too long to be stored.
    """
    if len(set(users)) != len(users):
        raise ValueError(
            f"{url}: user {Counter(users).most_common(1)[0][0]!r} has several lines, spaces around the id aside; join them to one"
        )
    if too_long := next((user for user in users if len(user.encode()) > MAX_RAW_USER_BYTES), None):
        raise ValueError(
            f"{url}: the user id {too_long[:40]!r}... is longer than {MAX_RAW_USER_BYTES} bytes; shorten it"
        )
    if all(user.isdecimal() and len(user) < 19 for user in users):  # below 10**18 fits int64
        numbers = np.array(users, dtype=np.int64)
        if len(np.unique(numbers)) == len(numbers):  # 1 and 01 may be two users
            exact = all(map(str.__eq__, map(str, numbers.tolist()), users))
            return numbers, None if exact else _strings(users)
    return np.arange(1, len(users) + 1), _strings(users)


def _strings(values: list[str]) -> pa.LargeStringArray:
    import pyarrow as pa

    return pa.array(values, pa.large_string())


def media_files(folder: str | None) -> dict[str, Entry]:
    """The files of a media folder by raw item id, which is their name without suffix."""
    if folder is None:
        return {}
    files = [
        entry
        for entry in list_folder(folder)
        if not entry.is_folder and not entry.name.startswith(".")
    ]
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
