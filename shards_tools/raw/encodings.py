"""Encodings of text files that are not UTF-8: named in messages, never guessed when reading."""

from __future__ import annotations

import codecs
import shlex

import charset_normalizer

ICONV_NAMES = {
    "gb18030": "GB18030",
    "big5": "BIG5",
    "shift_jis": "SHIFT_JIS",
    "euc_jp": "EUC-JP",
    "cp949": "CP949",
    "cp1251": "WINDOWS-1251",
    "cp1252": "WINDOWS-1252",
}
"""Name for iconv of each encoding that ASCII is a part of, by its name in Python.

Others are rare, and so similar to these that short samples would be mistaken for them.
"""
MAX_SAMPLE_LINES = 300
MIN_UTF16_ZEROS = 0.05
"""Least share of zero bytes in UTF-16, which has them in digits, separators and line ends."""
UTF16_SHARE = 0.9
"""Share of zero bytes at odd or at even positions, from which on a text counts as UTF-16."""


def conversion(sample: bytes, name: str) -> str:
    """Return the sentences on how to convert a file to UTF-8.

    Args:
        sample: Bytes of the file that are not UTF-8, with some before and after them.
        name: Name of the file.
    """
    encoding = _utf16(sample) if b"\0" in sample else _guess(sample)
    if encoding is None:
        return "Save it as UTF-8"
    command = f"iconv -f {encoding} -t UTF-8 {shlex.quote(name)} > NEW_FILE"
    return f"It looks like {encoding}. Convert it: {command}"


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


def _guess(sample: bytes) -> str | None:
    # Lines of ASCII look alike in all encodings. The last line may end within a character.
    lines = [line for line in sample.split(b"\n")[:-1] if not line.isascii()]
    text = b"\n".join(lines[:MAX_SAMPLE_LINES]) or sample
    guess = charset_normalizer.from_bytes(text, cp_isolation=list(ICONV_NAMES)).best()
    return None if guess is None else ICONV_NAMES[guess.encoding]
