"""The on-disk format of a data set. Other packages read and write it through this module alone.

<url>/dataset.json                      DatasetInfo (dataset_info.py), with its counts
                                        (counts.py) and its split (splits.py)
<url>/catalogue.parquet                 Catalogue (catalogue.py): one row per item, by id 1 ... N
<url>/failures.jsonl                    one line per raw file that could not be packed
<url>/items/items-00000.tar             one WebDataset sample per item: JPEG frames or a clip,
                                        cover, title, audio, features, json
<url>/sequences/sequences-00000.tar     one WebDataset sample per block of users, with npy members
                                        (sequence_shards.py)

The publisher of a data set may be wrong or hostile. Each file is therefore parsed once, here, into
typed and bounded values, before anything acts on it. A fault is a ValueError of one sentence.
mlrec-shards check runs the same checks.
"""

from __future__ import annotations

from mlrec.data.format.catalogue import (
    CATALOGUE_SCHEMA,
    Catalogue,
    Member,
    MemberPlaces,
    catalogue_bytes,
    parse_catalogue,
    read_catalogue,
)
from mlrec.data.format.catalogue_checks import MAX_MEMBER_BYTES
from mlrec.data.format.dataset_info import (
    AUDIO_RATE,
    CATALOGUE_FILE,
    DATASET_FILE,
    FAILURES_FILE,
    FORMAT,
    ORACLE_FILE,
    VERSION,
    DatasetInfo,
    FileInfo,
    MediaInfo,
    NoDatasetError,
    item_shard,
    parse_dataset_info,
    read_dataset_info,
    sequence_shard,
)
from mlrec.data.format.oracle import read_oracle
from mlrec.data.format.sequence_shards import (
    SEQUENCE_MEMBERS,
    Block,
    id_fault,
    raw_user_array,
    read_blocks,
)
from mlrec.data.format.splits import SPLITS, Cuts, HeldOut, Split, SplitInfo, held_out
from mlrec.storage.npy import npy_bytes, read_npy

__all__ = [
    "AUDIO_RATE",
    "CATALOGUE_FILE",
    "CATALOGUE_SCHEMA",
    "DATASET_FILE",
    "FAILURES_FILE",
    "FORMAT",
    "MAX_MEMBER_BYTES",
    "ORACLE_FILE",
    "SEQUENCE_MEMBERS",
    "SPLITS",
    "VERSION",
    "Block",
    "Catalogue",
    "Cuts",
    "DatasetInfo",
    "FileInfo",
    "HeldOut",
    "MediaInfo",
    "Member",
    "MemberPlaces",
    "NoDatasetError",
    "Split",
    "SplitInfo",
    "catalogue_bytes",
    "held_out",
    "id_fault",
    "item_key",
    "item_shard",
    "npy_bytes",
    "parse_catalogue",
    "parse_dataset_info",
    "raw_user_array",
    "read_blocks",
    "read_catalogue",
    "read_dataset_info",
    "read_npy",
    "read_oracle",
    "sequence_shard",
]


def item_key(item: int) -> str:
    """Return the WebDataset key of an item's sample."""
    return f"{item:09d}"
