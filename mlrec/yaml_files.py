"""YAML files that a user names."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def read_yaml(path: Path, kind: str) -> Any:
    """The content of the file, as OmegaConf has it.

    Args:
        kind: what a user calls such a file, for messages.

    Raises:
        ValueError: it is not there, or is not YAML; the message names the near file.
    """
    try:
        return OmegaConf.load(path)
    except FileNotFoundError as error:
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ValueError(f"there is no {kind} {path}{hint}") from error
    except Exception as error:  # YAML's own errors have no common base with OmegaConf's
        raise ValueError(f"{path} is not YAML: {str(error).strip().splitlines()[0]}") from error
