"""Text as it is written in YAML files and on command lines, before the type of its key is known.

YAML 1.1 turns 0123 into 83, 1_000 into 1000, 12:30 into 750 and yes into true.
Here a scalar keeps its text, and numbers have a strict grammar.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from yaml import ScalarNode
from yaml.resolver import Resolver

from mlrec.config.bounds import INT64
from mlrec.runtime.credentials import check_no_credentials
from mlrec.runtime.printable import printable

# the longest paths and URLs that systems take
MAX_TEXT_CHARACTERS = 4096
# float() takes time that grows with the length, and no number needs more
MAX_NUMBER_CHARACTERS = 64
# of a value in a message
MAX_SHOWN_CHARACTERS = 80

# [0-9], because \d would also take digits of other scripts; no leading zero, which means octal
# in YAML 1.1 and in other languages
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,29}")
_NUMBER = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
# a text that is the same text to every YAML parser and in a shell
_SAFE_WITHOUT_QUOTES = re.compile(r"[\w./+-][\w./+:~-]*", re.ASCII)
_CONSTANTS = {"true": True, "false": False, "null": None}

# decides which texts are numbers, dates or truth values in YAML 1.1
_YAML_RESOLVER: Any = Resolver()


@dataclass(frozen=True)
class Scalar:
    """A value as it was written."""

    text: str
    quoted: bool = False
    """Whether YAML has it in quotes or as a block, so that it is a text, whatever it looks like."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written, not even quotes."""
        return not self.text and not self.quoted


Node: TypeAlias = "Scalar | list[Node] | dict[str, Node]"


def check_text(text: str, key: str) -> None:
    """Check a text of any key.

    Raises:
        ValueError: the text is too long, does not print, or holds an interpolation or credentials.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(
            f"{key} has {len(text):,} characters; it must have at most {MAX_TEXT_CHARACTERS:,}"
        )
    # OmegaConf and Hydra would replace it, so its author expects that
    if "${" in text:
        raise ValueError(
            f"{key} is {shown(Scalar(text))}; ${{...}} is not replaced in a configuration, "
            "write the value itself"
        )
    # the configuration is saved in the run's folder and sent to W&B
    check_no_credentials(text, key)
    if printable(text, MAX_TEXT_CHARACTERS) != text:
        raise ValueError(
            f"{key} is {shown(Scalar(text))}; it must not hold line breaks or characters that "
            "do not print"
        )


def as_whole_number(scalar: Scalar) -> int | None:
    """Return a whole number in plain digits; None for everything else."""
    if scalar.quoted or not _WHOLE_NUMBER.fullmatch(scalar.text):
        return None
    return int(scalar.text)


def as_number(scalar: Scalar) -> float | None:
    """Return a finite number as Python and JSON write it; None for everything else."""
    text = scalar.text
    if scalar.quoted or len(text) > MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    # 1e-400 is 0 to Python, which its author did not mean
    mantissa = re.split("[eE]", text)[0]
    underflows = value == 0 and re.search("[1-9]", mantissa) is not None
    return None if underflows or not math.isfinite(value) else value


def is_number(text: str) -> bool:
    """Return whether an unquoted text is read as a number."""
    return as_number(Scalar(text)) is not None


def as_json_value(scalar: Scalar, key: str) -> Any:
    """Return the value of an option without a declared type.

    JSON's numbers, true, false and null are values, and all else is text.

    Raises:
        ValueError: the text looks like a number, a date or a truth value, but only to YAML.
    """
    text = scalar.text
    if scalar.quoted:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    whole_number = as_whole_number(scalar)
    if whole_number is not None and abs(whole_number) <= INT64:
        return whole_number
    # a whole number beyond int64 must not become a float that rounds it
    number = as_number(scalar)
    if number is not None and whole_number is None:
        return number
    # A text such as 010, 1_000, 12:30, yes or 2026-01-01: other YAML parsers read a number, a truth
    # value or a date, and the text was probably meant as one.
    if _YAML_RESOLVER.resolve(ScalarNode, text, (True, False)) != "tag:yaml.org,2002:str":
        raise ValueError(
            f"{key} is {shown(scalar)}; write a number like 8 or 0.5, true, false or null, "
            "or put a text in quotes"
        )
    return text


def shown(node: Node) -> str:
    """Return a value for a message: numbers as they are, texts in quotes."""
    return printable(_shown(node), MAX_SHOWN_CHARACTERS)


def _shown(node: Node) -> str:
    if isinstance(node, list):
        return f"[{', '.join(map(shown, node))}]"
    if isinstance(node, dict):
        pairs = [f"{name}: {shown(value)}" for name, value in node.items()]
        return f"{{{', '.join(pairs)}}}"
    is_constant = not node.quoted and node.text in _CONSTANTS
    return node.text if is_constant or as_number(node) is not None else repr(node.text)


def as_flow_yaml(node: Node) -> str:
    """Return a value as YAML on one line."""
    if isinstance(node, list):
        return f"[{', '.join(map(as_flow_yaml, node))}]"
    if isinstance(node, dict):
        pairs = []
        for name, value in node.items():
            pairs.append(f"{as_flow_yaml(Scalar(name))}: {as_flow_yaml(value)}")
        return f"{{{', '.join(pairs)}}}"
    if not node.quoted and _SAFE_WITHOUT_QUOTES.fullmatch(node.text):
        return node.text
    # a JSON string is a YAML string in double quotes
    return json.dumps(node.text, ensure_ascii=False)
