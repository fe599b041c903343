"""One mutation of a file, with or without regard to its format, drawn from a generator."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import PurePath
from random import Random

from fuzzing.arrays import mutate_npy, mutate_parquet, mutate_safetensors
from fuzzing.documents import CANARY, mutate_json, mutate_json_lines, mutate_yaml
from fuzzing.unstructured import UNSTRUCTURED, Mutation, flip, lines


def mutate(name: str, content: bytes, rng: Random) -> Mutation:
    """Return one mutation of the file `name`, in two of three cases by its format."""
    structured = STRUCTURED.get(PurePath(name).suffix)
    if structured is not None and content and rng.random() < 0.67:
        words, mutated = structured(content, rng)
    else:
        words, mutated = rng.choice(UNSTRUCTURED)(content, rng)
    if mutated == content:  # a case always changes something
        return "a byte appended", content + b"\x00"
    return words, mutated


def _tar(content: bytes, rng: Random) -> Mutation:
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            members = [(entry, tar.extractfile(entry).read()) for entry in tar]  # type: ignore[union-attr]
    except (tarfile.TarError, AttributeError, UnicodeDecodeError):
        return flip(content, rng)
    place = rng.randrange(len(members))
    images = [at for at, (entry, _) in enumerate(members) if entry.name.endswith(".jpg")]
    if images and rng.random() < 0.3:  # whose headers promise any size
        place = rng.choice(images)
    entry, data = members[place]
    name = entry.name
    change = rng.choice(
        [
            "content",
            "content",
            "content",
            "content",
            "name",
            "removed",
            "doubled",
            "link",
            "size",
            "order",
        ]
    )
    if change == "content":
        words, data = mutate(name, data, rng)
        if rng.random() < 0.5:  # in its place: all offsets stay
            data = data[: entry.size].ljust(entry.size, b"\x00")
            start = entry.offset_data
            return f"{name}, in its place: {words}", content[:start] + data + content[
                start + entry.size :
            ]
        members[place], change = (entry, data), words
    elif change == "name":
        entry.name = rng.choice(
            [
                f"../{CANARY}/victim",
                "/x",
                "x",
                "x" * 300,
                "000000001.json",
                f"{name}.x",
                "a\x1b[31m.txt",
            ]
        )
    elif change == "removed":
        del members[place]
    elif change == "doubled":
        members.insert(place, (entry, data))
    elif change == "link":
        entry.type, entry.linkname, members[place] = (
            rng.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE]),
            "/x",
            (entry, b""),
        )
    elif change == "size":
        return _tar_size(content, entry, rng)
    else:
        rng.shuffle(members)
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, body in members:
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return f"{name}: {change}", sink.getvalue()


def _tar_size(content: bytes, entry: tarfile.TarInfo, rng: Random) -> Mutation:
    """A member's header states another size, with a checksum that fits."""
    size = rng.choice([0, 1, entry.size + 1, entry.size + 512, 8**11 - 1])
    start = entry.offset
    header = bytearray(content[start : start + 512])
    header[124:136] = f"{size:011o}\x00".encode()
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\x00 ".encode()
    return f"{entry.name}: size {size} in its header", content[:start] + bytes(header) + content[
        start + 512 :
    ]


def _jpeg(content: bytes, rng: Random) -> Mutation:
    marker = content.find(b"\xff\xc0")
    if marker < 0:
        return flip(content, rng)
    height, width = rng.choice([(65500, 65500), (0, 0), (33, 31), (1, 65535), (32, 64), (16, 16)])
    size = struct.pack(">HH", height, width)
    return f"JPEG of {height} x {width}", content[: marker + 5] + size + content[marker + 9 :]


STRUCTURED: dict[str, Callable[[bytes, Random], Mutation]] = {
    ".json": mutate_json,
    ".jsonl": mutate_json_lines,
    ".yaml": mutate_yaml,
    ".npy": mutate_npy,
    ".parquet": mutate_parquet,
    ".safetensors": mutate_safetensors,
    ".tar": _tar,
    ".jpg": _jpeg,
    ".csv": lines,
    ".txt": lines,
}
