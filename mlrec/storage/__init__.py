"""Files on any storage that fsspec supports, and their safe formats.

Use it as `from mlrec import storage; storage.read_bytes(url)`. A new storage scheme is a row in
runtime/urls.py and an extra in setup.py.

filesystems.py    open the storage of a URL
reads.py          read and list files by URL
seekable.py       read a file in any order
folders.py        a folder that is removed again if it stays empty
missing.py        the message about a folder that is not there
writes.py         write and remove files by URL; every write is complete or absent
transfer.py       retries, time limits, and non-retryable errors
own_files.py      refuse to replace files that mlrec did not write
typed_json.py     JSON, parsed into typed and bounded values
npy.py, tensor_files.py, parquet_text.py   arrays, tensors and text columns, read without pickle
"""

from mlrec.storage.filesystems import is_local, join, local_path
from mlrec.storage.folders import check_writable
from mlrec.storage.missing import why_absent
from mlrec.storage.reads import (
    READ_BYTES,
    exists,
    find_files,
    list_files,
    list_folder,
    open_stream,
    read_bytes,
    read_local_ranges,
    read_range,
    read_ranges,
    sha256_of,
    size_of,
)
from mlrec.storage.seekable import open_seekable
from mlrec.storage.writes import download, flush, publish, remove, write_bytes, writing

__all__ = [
    "READ_BYTES",
    "check_writable",
    "download",
    "exists",
    "find_files",
    "flush",
    "is_local",
    "join",
    "list_files",
    "list_folder",
    "local_path",
    "open_seekable",
    "open_stream",
    "publish",
    "read_bytes",
    "read_local_ranges",
    "read_range",
    "read_ranges",
    "remove",
    "sha256_of",
    "size_of",
    "why_absent",
    "write_bytes",
    "writing",
]
