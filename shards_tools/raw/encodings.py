"""Encodings of text files that are not UTF-8: named in messages, never guessed when reading."""

from __future__ import annotations

import codecs
import re
import shlex
from typing import NamedTuple

import charset_normalizer


class Encoding(NamedTuple):
    """An encoding that ASCII is a part of."""

    name: str
    """Name for iconv."""
    language: str
    has_pairs: bool = True
    """Whether most characters are two bytes, so that a short text fits several encodings."""


ENCODINGS = {
    "gb18030": Encoding("GB18030", "Chinese"),
    "big5": Encoding("BIG5", "traditional Chinese"),
    "shift_jis": Encoding("SHIFT_JIS", "Japanese"),
    "euc_jp": Encoding("EUC-JP", "Japanese"),
    "cp949": Encoding("CP949", "Korean"),
    "cp1251": Encoding("WINDOWS-1251", "Russian", has_pairs=False),
    "cp1252": Encoding("WINDOWS-1252", "a Western European language", has_pairs=False),
}
"""Encodings by their names in Python, GB18030 first because MicroLens is Chinese.

Others are rare, and so similar to these that short samples would be mistaken for them.
"""
MIN_LONG_BYTES = 200
"""Length of the distinct runs of bytes that are no ASCII, from which on a text is long."""
MAX_SAMPLE_LINES = 300
MIN_UTF16_ZEROS = 0.05
"""Least share of zero bytes in UTF-16, which has them in digits, separators and line ends."""
UTF16_SHARE = 0.9
"""Share of zero bytes at odd or at even positions, from which on a text counts as UTF-16."""

_NO_ASCII = re.compile(rb"[\x80-\xff]+")


def conversion(sample: bytes, name: str) -> str:
    """Return the sentences on how to convert a file to UTF-8.

    Args:
        sample: Bytes of the file that are not UTF-8, with some before and after them.
        name: Name of the file.
    """
    if b"\0" in sample:
        utf16 = _utf16(sample)
        candidates = [] if utf16 is None else [Encoding(utf16, "any language")]
    else:
        candidates = _guesses(sample)
    if not candidates:
        return "Remove its zero bytes, or save it as UTF-8 text"
    best = candidates[0]
    command = f"iconv -f {best.name} -t UTF-8 {shlex.quote(name)} > NEW_FILE"
    if len(candidates) == 1:
        return f"It looks like {best.name}. Convert it: {command}"
    names = [f"{candidate.name} ({candidate.language})" for candidate in candidates]
    one_of = f"{', '.join(names[:-1])} or {names[-1]}"
    return f"It may be {one_of}. If its text is in {best.language}, convert it: {command}"


def _utf16(sample: bytes) -> str | None:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    num_zeros = sample.count(0)
    if num_zeros < MIN_UTF16_ZEROS * len(sample):
        return None
    if sample[1::2].count(0) > UTF16_SHARE * num_zeros:
        return "UTF-16LE"
    if sample[::2].count(0) > UTF16_SHARE * num_zeros:
        return "UTF-16BE"
    return None


def _guesses(sample: bytes) -> list[Encoding]:
    """Return the encoding of a text; several where it is not clear, the most likely first."""
    # Lines of ASCII look alike in all encodings. The last line may end within a character.
    lines = [line for line in sample.split(b"\n")[:-1] if not line.isascii()]
    lines = lines[:MAX_SAMPLE_LINES] or [sample]
    text = b"\n".join(lines)
    matches = charset_normalizer.from_bytes(text, cp_isolation=list(ENCODINGS))
    likely = [match.encoding for match in matches]
    single = [name for name in likely if not ENCODINGS[name].has_pairs]
    if likely and likely == single:
        return [ENCODINGS[name] for name in likely]
    # the first line may begin within a character
    text = b"\n".join(lines[1:] or lines)
    fitting = [name for name in ENCODINGS if ENCODINGS[name].has_pairs and _fits(text, name)]
    if _is_long(text):
        # the guess is good, but not certain
        fitting.sort(key=lambda name: [name] != likely[:1])
    # short texts with few accents may be like nothing
    names = fitting + single or [name for name in ENCODINGS if not ENCODINGS[name].has_pairs]
    return [ENCODINGS[name] for name in names]


def _is_long(text: bytes) -> bool:
    """Return whether a text has enough different characters that are no ASCII."""
    return sum(map(len, set(_NO_ASCII.findall(text)))) >= MIN_LONG_BYTES


def _fits(text: bytes, encoding: str) -> bool:
    try:
        text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
