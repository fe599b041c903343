"""The commit of the code that runs."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """Return the commit of the checkout that this code runs from, or "" outside of one.

    A "+" marks uncommitted changes.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        is_changed = bool(git("status", "--porcelain", "--untracked-files=no"))
        return git("rev-parse", "--short=12", "HEAD") + ("+" if is_changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
