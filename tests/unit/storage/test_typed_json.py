"""JSON becomes typed values, or an error that names place, value and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import Field

from mlrec.runtime.printable import printable
from mlrec.storage.typed_json import STRICT, parse_json, parse_json_lines


@dataclass(frozen=True)
class File:
    __pydantic_config__ = STRICT

    path: str
    size: Annotated[int, Field(ge=0, lt=1 << 60)]


@dataclass(frozen=True)
class Document:
    __pydantic_config__ = STRICT

    share: float
    files: tuple[File, ...] = ()


def test_parse_json_of_a_valid_document_returns_typed_values() -> None:
    raw = b'{"share": 0.5, "files": [{"path": "a.tar", "size": 3}]}'
    assert parse_json(raw, Document, "x.json", "Fix it") == Document(0.5, (File("a.tar", 3),))


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "EOF"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"share": NaN}', "share is nan: Input should be a finite number"),
        (b'{"share": 1e999}', "share is inf"),
        (b'{"share": "0.5"}', "share is '0.5'"),
        (b'{"share": true}', "share is True"),
        (b'{"share": ' + b"9" * 5000 + b"}", "number out of range"),
        (b'{"share": 0.5, "more": 1}', "more is 1"),
        (b'{"share": 0.5, "files": [{"path": "a", "size": -1}]}', "files.0.size is -1"),
        (b'{"share": 0.5, "files": [{"path": "a", "size": 1.5}]}', "files.0.size is 1.5"),
        (b'{"share": "\\u001b[31mred"}', "share is '\\x1b[31mred'"),
        (b'{"share": 0.5, "files": [{"path": "\xff"}]}', "invalid unicode"),
        (b"{}", "share: Field required"),
    ],
)
def test_parse_json_of_an_invalid_document_raises_one_sentence(raw: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=r"x\.json is invalid") as raised:
        parse_json(raw, Document, "x.json", "Fix it")
    message = str(raised.value)
    assert fault in message
    assert message.endswith(". Fix it.")
    assert "\n" not in message


def test_printable_escapes_control_characters_and_keeps_text() -> None:
    assert printable("a\x1b]0;t\x07b\u202ec\nd") == "a\\x1b]0;t\\x07b\\u202ec\\nd"
    assert printable("Überraschung 🎬 👩‍👧 视频") == "Überraschung 🎬 👩‍👧 视频"
    assert printable("x" * 500, 10) == "x" * 9 + "…"


def test_parse_json_lines_with_an_incomplete_last_line_drops_it_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert parse_json_lines(b"1\n2\n3", int, "metrics.jsonl", "Fix it") == [1, 2]
    assert caplog.messages == [
        "metrics.jsonl: dropped the last 1 bytes, an incomplete line as a crash leaves it"
    ]
