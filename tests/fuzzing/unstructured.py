"""Mutations of a file's bytes that know nothing of its format."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Mutation = tuple[str, bytes]
"""What was done, in words, and the new content."""


def _span(content: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice([1, 4, 16, 100, 1000, 10_000]))


def flip(content: bytes, rng: Random) -> Mutation:
    changed, count = bytearray(content or b"\x00"), rng.choice([1, 1, 1, 4, 32])
    for place in rng.sample(range(len(changed)), min(count, len(changed))):
        changed[place] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped", bytes(changed)


def _truncate(content: bytes, rng: Random) -> Mutation:
    length = rng.choice(
        [0, 1, len(content) // 2, max(0, len(content) - 1), rng.randrange(len(content) + 1)]
    )
    return f"cut to {length} of {len(content)} bytes", content[:length]


def _extend(content: bytes, rng: Random) -> Mutation:
    tail = rng.choice([b"\x00", b"\n", b"garbage", rng.randbytes(512), content])
    return f"{len(tail)} bytes appended", content + tail


def _overwrite(content: bytes, rng: Random) -> Mutation:
    start, end = _span(content, rng)
    fill = rng.choice([b"\x00", b"\xff", None])
    middle = rng.randbytes(end - start) if fill is None else fill * (end - start)
    return f"bytes {start} to {end} overwritten with {fill or 'noise'!r}", content[
        :start
    ] + middle + content[end:]


def _swap_halves(content: bytes, rng: Random) -> Mutation:
    middle = rng.choice([len(content) // 2, rng.randrange(len(content) + 1)])
    return f"cut at {middle} and swapped", content[middle:] + content[:middle]


def lines(content: bytes, rng: Random) -> Mutation:
    lines = content.splitlines(keepends=True) or [b""]
    place = rng.randrange(len(lines))
    change = rng.choice(["deleted", "doubled", "moved to the end", "repeated 2000 times"])
    line = lines.pop(place)
    if change == "doubled":
        lines[place:place] = [line, line]
    elif change == "moved to the end":
        lines.append(line)
    elif change != "deleted":
        lines[place:place] = [line] * 2000
    return f"line {place + 1} {change}", b"".join(lines)


def _replaced(content: bytes, rng: Random) -> Mutation:
    other = rng.choice(
        [
            b"",
            b"not a file\n",
            b"\x00" * 4096,
            b"{}",
            b"[]",
            b"null",
            b"[" * 100_000,
            rng.randbytes(2000),
        ]
    )
    return f"replaced by {other[:12]!r} ({len(other)} bytes)", other


UNSTRUCTURED: list[Callable[[bytes, Random], Mutation]] = [
    flip,
    flip,
    _truncate,
    _extend,
    _overwrite,
    _swap_halves,
    lines,
    _replaced,
]
