"""The declared types of keys: what they hold, and how messages and `mlrec list keys` name them."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Any: "a number, a text, true, false, null, a list or a mapping",
}
# count in words and an example: two numbers are optim.betas, three are means of color channels
_LISTS_OF_NUMBERS = {
    2: ("two", "[0.9, 0.999]"),
    3: ("three", "[0.5, 0.5, 0.5]"),
}


def is_optional(kind: Any) -> bool:
    """Return whether a kind is `X | None`."""
    return types.NoneType in get_args(kind)


def is_word_or_number(kind: Any) -> bool:
    """Return whether a kind is `Literal["auto"] | X`, where X is a number."""
    return get_origin(kind) in (Union, types.UnionType) and not is_optional(kind)


def without_none(kind: Any) -> Any:
    """Return X of `X | None`."""
    (inner,) = (member for member in get_args(kind) if member is not types.NoneType)
    return inner


def inner_kind(kind: Any, name: str) -> Any:
    """Return the type of the key `name` in a section or options; None if there is none."""
    # include_extras keeps the bounds, which are annotations
    if is_dataclass(kind) or is_typeddict(kind):
        return get_type_hints(kind, include_extras=True).get(name)
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    # options of libraries may hold mappings of any depth
    return Any if kind is Any else None


def holds_keys(kind: Any) -> bool:
    """Return whether a kind is a section, or options."""
    return is_dataclass(kind) or is_typeddict(kind) or get_origin(kind) is dict


def is_structured(kind: Any) -> bool:
    """Return whether values of this kind, or of no known kind, are YAML on a command line.

    For all other kinds the text is the value.
    """
    if is_optional(kind):
        return is_structured(without_none(kind))
    return kind in (Any, None) or get_origin(kind) is tuple or holds_keys(kind)


def in_words(kind: Any) -> str:
    """Return what a value of a key's type is, or what a section is, for a message."""
    origin = get_origin(kind)
    arguments = get_args(kind)
    if origin is Annotated:
        return " ".join([in_words(arguments[0]), *map(str, arguments[1:])])
    if is_optional(kind):
        return f"{in_words(without_none(kind))}, or null"
    if is_word_or_number(kind):
        words, number = arguments
        return f"{' or '.join(get_args(words))}, or {in_words(number)}"
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        return f"a section with {', '.join(names)}"
    if is_typeddict(kind):
        return f"options with their values: {', '.join(sorted(get_type_hints(kind)))}"
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return _list_in_words(arguments)
    # item.options has options with types, those of recommenders and DeepSpeed have none
    if origin is dict and arguments[1] is not Any:
        return "options of each encoder, such as {id/embedding: {dropout: 0.3}}"
    if origin is dict:
        return "options with their values, such as {layers: 2}"
    return _NAMES[kind]


def _list_in_words(kinds: tuple[Any, ...]) -> str:
    # all entries have the same bounds
    bounds = f" {kinds[0].__metadata__[0]}" if get_origin(kinds[0]) is Annotated else ""
    if kinds[-1] is ... and bounds:
        example = "[0, 1]" if kinds[0].__metadata__[0].holds(0) else "[10, 20]"
        return f"a list of whole numbers{bounds}, such as {example}"
    if kinds[-1] is ...:
        return "a list of names, such as [id/embedding]"
    count, example = _LISTS_OF_NUMBERS[len(kinds)]
    return f"a list of {count} numbers{bounds}, such as {example}"


def name_of(kind: Any) -> str:
    """Return the type of a key as `mlrec list keys` prints it."""
    origin = get_origin(kind)
    arguments = get_args(kind)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if is_word_or_number(kind):
        return " | ".join(map(name_of, arguments))
    if origin is Annotated:
        return name_of(arguments[0])
    if origin is tuple:
        names = ["..." if member is ... else name_of(member) for member in arguments]
        return f"tuple[{', '.join(names)}]"
    if is_typeddict(kind):
        return "options"
    if origin is dict:
        return f"dict[str, {name_of(arguments[1])}]"
    return "Any" if kind is Any else str(kind.__name__)
