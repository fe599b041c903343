"""JSON from outside, parsed once into typed and bounded dataclasses."""

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
"""Configuration for the body of each dataclass that is parsed: `__pydantic_config__ = STRICT`.

Text is not accepted as a number, nor a boolean. Numbers are finite, and unknown keys are an
error."""

MAX_JSON_BYTES = 256 << 20
"""Longer documents are refused before they are parsed."""
_MAX_QUOTED_CHARACTERS = 60


def parse_json(raw: bytes, kind: type[T], where: str, remedy: str) -> T:
    """Return the JSON document `raw` as a value of `kind`.

    Bounds are stated in the dataclass: `size: Annotated[int, Field(ge=0)]`. Checks that involve
    several fields belong in its `__post_init__` and raise ValueError.

    Args:
        kind: a dataclass with `__pydantic_config__ = STRICT`, or a builtin such as `list[str]`.
        where: path or URL of the document, for the message.
        remedy: what the user should do, as a sentence without its full stop.

    Raises:
        ValueError: the document is not JSON or does not fit `kind`. The message names the place,
            the value and the remedy.
    """
    if len(raw) > MAX_JSON_BYTES:
        raise ValueError(
            f"{where} is {len(raw):,} bytes long, at most {MAX_JSON_BYTES:,} are read. {remedy}."
        )
    # pydantic parses and checks in one pass, with limits on nesting and on numbers.
    try:
        value: T = _adapter(kind).validate_json(raw)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(f"{where} is invalid: {_fault(error)}. {remedy}.") from error
    return value


def read_bounded(path: Path, max_bytes: int, remedy: str) -> bytes:
    """Return the content of a local file of at most `max_bytes`.

    Raises:
        ValueError: the file is missing, larger, or not a regular file. The message names the path
            and the remedy.
    """
    try:
        if not path.exists():
            raise ValueError(f"{path} is missing. {remedy}.")
        if not path.is_file():  # reading a pipe would never end
            raise ValueError(f"{path} is not a regular file: remove it. {remedy}.")
        size = path.stat().st_size
        if size > max_bytes:
            raise ValueError(
                f"{path} is {size:,} bytes long, at most {max_bytes:,} are read. {remedy}."
            )
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}. {remedy}.") from error


def parse_json_lines(raw: bytes, kind: type[T], where: str, remedy: str) -> list[T]:
    """Return the values of a document with one JSON value per line.

    A last line without its line break, as a crash leaves it, is dropped with a warning.

    Args:
        kind: type of each line; the other arguments are those of `parse_json`.

    Raises:
        ValueError: a complete line does not fit `kind`. The message names the file and the line.
    """
    # The text after the last line break is empty unless a write was interrupted.
    *lines, rest = raw.split(b"\n")
    if rest:
        log.warning(
            "%s: dropped the last %d bytes, an incomplete line as a crash leaves it",
            where,
            len(rest),
        )
    values = []
    for number, line in enumerate(lines, start=1):
        values.append(parse_json(line, kind, f"{where}, line {number}", remedy))
    return values


# Each line of a file would build its adapter again otherwise.
@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _fault(error: ValidationError) -> str:
    """Describe the first fault: its place in the document, what is wrong, and the value."""
    first = error.errors(include_url=False)[0]
    place = printable(".".join(map(str, first["loc"])))
    reason = printable(first["msg"].removeprefix("Value error, "))
    # These faults have no value of their own to quote.
    if first["type"] in ("json_invalid", "missing", "value_error"):
        return f"{place}: {reason}" if place else reason
    value = printable(repr(first["input"]), _MAX_QUOTED_CHARACTERS)
    return f"{place or 'the document'} is {value}: {reason}"
