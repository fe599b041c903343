"""JSON from outside, parsed once into typed and bounded dataclasses: one sentence per fault."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mlrec.runtime.printable import printable

T = TypeVar("T")
log = logging.getLogger(__name__)

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Goes into the body of each dataclass that is parsed, as `__pydantic_config__ = STRICT`: numbers are no
text, booleans are no numbers, numbers are finite, and unknown keys are an error."""

MAX_JSON_BYTES = 256 << 20
"""Longer documents are refused before they are parsed."""
_MAX_QUOTED_CHARACTERS = 60


def parse_json(raw: bytes, kind: type[T], where: str, remedy: str) -> T:
    """Return the JSON document `raw` as a value of `kind`.

    Bounds are stated in the dataclass: `size: Annotated[int, Field(ge=0)]`. Checks that involve several
    fields belong in its `__post_init__` and raise ValueError.

    Args:
        kind: a dataclass with `__pydantic_config__ = STRICT`, or a builtin such as `list[str]`.
        where: path or URL of the document, for the message.
        remedy: what the user should do, a sentence without a full stop.

    Raises:
        ValueError: the document is not JSON or does not fit `kind`; names the place, the value and the remedy.
    """
    if len(raw) > MAX_JSON_BYTES:
        raise ValueError(
            f"{where} is {len(raw):,} bytes long, at most {MAX_JSON_BYTES:,} are read. {remedy}."
        )
    try:
        value: T = _adapter(kind).validate_json(raw)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(f"{where} is invalid: {_fault(error)}. {remedy}.") from error
    return value


def read_bounded(path: Path, max_bytes: int, remedy: str) -> bytes:
    """Return the content of a local file of at most `max_bytes`.

    Raises:
        ValueError: it is missing, no regular file (a pipe would never end), or larger; names the path and the remedy.
    """
    try:
        if not path.is_file():
            raise ValueError(
                f"{path} is {'not a regular file: remove it' if path.exists() else 'missing'}. {remedy}."
            )
        size = path.stat().st_size
        if size > max_bytes:
            raise ValueError(
                f"{path} is {size:,} bytes long, at most {max_bytes:,} are read. {remedy}."
            )
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}. {remedy}.") from error


def parse_json_lines(raw: bytes, kind: type[T], where: str, remedy: str) -> list[T]:
    """Return a document of one JSON value per line; a last line that a crash cut off is left out, and said.

    Args:
        kind: of each line; the other arguments are those of `parse_json`.

    Raises:
        ValueError: a complete line does not fit `kind`; names the file and the line.
    """
    *lines, rest = raw.split(b"\n")
    if rest:
        log.warning(
            "%s: its last %d bytes are no whole line, as after a crash, and are left out",
            where,
            len(rest),
        )
    return [
        parse_json(line, kind, f"{where}, line {number}", remedy)
        for number, line in enumerate(lines, start=1)
    ]


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _fault(error: ValidationError) -> str:
    """The first fault in words: where in the document, what is wrong, and the value."""
    first = error.errors(include_url=False)[0]
    place = printable(".".join(map(str, first["loc"])))
    reason = printable(first["msg"].removeprefix("Value error, "))
    if first["type"] in ("json_invalid", "missing", "value_error"):
        return f"{place}: {reason}" if place else reason
    value = printable(repr(first["input"]), _MAX_QUOTED_CHARACTERS)
    return f"{place or 'the document'} is {value}: {reason}"
