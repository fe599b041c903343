"""Files on any storage that fsspec knows, and the safe formats that they have.

objects.py        read, list, write and remove files by URL; every write is complete or absent
transfer.py       retries, time limits, and errors that no retry helps against
own_files.py      refuse to replace files that mlrec did not write
typed_json.py     JSON, parsed into typed and bounded values
npy.py, tensor_files.py, parquet_text.py   arrays, tensors and text columns, read without pickle
"""

from mlrec.storage.objects import (
    READ_BYTES,
    download,
    exists,
    flush,
    is_local,
    join,
    list_files,
    list_folder,
    local_path,
    open_stream,
    publish,
    read_bytes,
    read_range,
    read_ranges,
    remove,
    sha256_of,
    size_of,
    write_bytes,
    writing,
)

__all__ = [
    "READ_BYTES",
    "download",
    "exists",
    "flush",
    "is_local",
    "join",
    "list_files",
    "list_folder",
    "local_path",
    "open_stream",
    "publish",
    "read_bytes",
    "read_range",
    "read_ranges",
    "remove",
    "sha256_of",
    "size_of",
    "write_bytes",
    "writing",
]
