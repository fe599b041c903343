"""Tar shards: reproducible bytes, and members where they are said to be."""

import hashlib
import io
import os
import tarfile
import zlib
from pathlib import Path

from shards_tools.pack.tar import TarWriter

SAMPLE = {"0.jpg": b"x" * 700, "txt": b"", "json": b"{}" * 256}


def test_tar_writer_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    contents = []
    for name, mask in (("a.tar", 0o022), ("b.tar", 0o077)):
        # the umask decides the mode of files, which must not reach the members
        old_mask = os.umask(mask)
        try:
            with TarWriter(tmp_path / name) as tar:
                members = tar.write_sample("000000001", SAMPLE)
        finally:
            os.umask(old_mask)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert (tar.size, tar.sha256) == (len(contents[0]), hashlib.sha256(contents[0]).hexdigest())
    for member in members:
        data = contents[0][member.offset : member.offset + member.size]
        assert (data, member.crc32) == (SAMPLE[member.name], zlib.crc32(data))


def test_tar_writer_output_is_readable_by_tarfile(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "a.tar") as tar:
        tar.write_sample("000000001", SAMPLE)
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "a.tar").read_bytes())) as read:
        members = read.getmembers()
    names = [member.name for member in members]
    assert names == ["000000001.0.jpg", "000000001.txt", "000000001.json"]
    for member in members:
        assert (member.mtime, member.uid, member.uname, member.mode) == (0, 0, "", 0o644)
