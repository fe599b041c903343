"""YAML files that a user names."""

from __future__ import annotations

import difflib
import io
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError


def read_yaml(path: Path, kind: str) -> Any:
    """The content of the file, as OmegaConf has it.

    Args:
        kind: what a user calls such a file, for messages.

    Raises:
        ValueError: it cannot be read, or is not YAML; the message names the near file, or the line.
    """
    text = _read(path, kind)
    try:
        return OmegaConf.load(io.StringIO(text))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path} is not YAML: {_fault(error)}") from error
    except OSError as error:  # OmegaConf's, of a number and the like
        raise ValueError(f"{path} is a single value; a {kind} must hold keys with their values") from error


def _read(path: Path, kind: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ValueError(f"there is no {kind} {path}{hint}") from error
    except IsADirectoryError as error:
        inside = sorted(path.glob("*.yaml"))
        hint = f"name a file in it, such as {inside[0]}" if inside else "it holds no YAML file"
        raise ValueError(f"{path} is a folder, not a {kind}; {hint}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error


def _fault(error: Exception) -> str:
    """What is wrong with a text that is not YAML, and in which line."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return first_line(error)
    line, begin = error.problem_mark.line + 1, error.context_mark
    within = f" that begins in line {begin.line + 1}" if begin and begin.line + 1 != line else ""
    return f"line {line}: {f'{error.context}{within}, ' if error.context else ''}{error.problem}"


def first_line(error: Exception) -> str:
    """The first line of what an error says; the others are OmegaConf's and YAML's own."""
    return str(error).strip().splitlines()[0]
