"""launch/install.py as a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def load_install() -> Any:
    """Load the file, which is in no package."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "launch/install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = load_install()
