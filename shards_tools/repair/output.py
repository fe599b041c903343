"""The output of a repair: only damaged files are published, after their sha256 is verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mlrec import storage
from mlrec.data.format import DATASET_FILE, DatasetInfo, FileInfo, item_shard
from shards_tools.pack.output import Output

PACK_AGAIN = f"remove {DATASET_FILE} there, and mlrec-shards make packs it again"
"""Remedy for a damaged dataset.json."""


class RepairOutput(Output):
    """An output that drops intact files, and keeps the records of the work folder in memory."""

    def __init__(
        self, url: str, staging: Path, info: DatasetInfo, damaged: Mapping[str, str]
    ) -> None:
        """
        Create the output.

        Args:
            damaged: Fault of each damaged file, by path.
        """
        super().__init__(url, staging)
        self.damaged = damaged
        self.files: dict[str, FileInfo] = {file.path: file for file in info.files}
        """Files of the data set, by path."""
        self._records: dict[str, bytes] = {}

    def is_intact_shard(self, shard: int) -> bool:
        """Return whether the data set has the item shard of this number, undamaged."""
        path = item_shard(shard)
        return path in self.files and path not in self.damaged

    def publish(self, staged: Path, path: str) -> None:
        """Publish a damaged file, and drop an intact one.

        Raises:
            ValueError: the packed file is not the one that dataset.json names.
        """
        if path not in self.damaged:
            # the packer writes all tables again, also those that are intact
            staged.unlink()
            return
        sha256 = storage.sha256_of(str(staged))
        if sha256 != self.files[path].sha256:
            raise self._mismatch(path, sha256)
        super().publish(staged, path)

    def _mismatch(self, path: str, packed_sha256: str) -> ValueError:
        """Return the error about a packed file that is not the one that dataset.json names."""
        place = storage.join(self.url, path)
        # The stored file equals the packed one: then the wrong sha256 is that of dataset.json.
        if storage.exists(place) and storage.sha256_of(place) == packed_sha256:
            return ValueError(
                f"{self.url}: {DATASET_FILE} itself is damaged: {path} is what it should be. "
                f"To replace it, {PACK_AGAIN}"
            )
        return ValueError(
            f"{path}, packed again, does not have the sha256 that {self.url}/{DATASET_FILE} names. "
            "The raw folder, or the version of a decoder, "
            "is not the one that the data set was made with. "
            "Give that one, or pack to another place"
        )

    def put_record(self, name: str, data: bytes) -> None:
        """Keep a record in memory."""
        # not to the work folder: a stopped repair must not look like a stopped packing
        self._records[name] = data

    def read_records(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield the records in memory whose names start with `prefix`, by name."""
        for name, data in sorted(self._records.items()):
            if name.startswith(prefix):
                yield name, data
