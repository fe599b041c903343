"""`mlrec train` that pauses for good while it writes a checkpoint.

Usage: pausing.py STEP MARKER argument ...
"""

import sys
import time
from pathlib import Path

from mlrec import storage
from mlrec.cli.main import run_command

step, marker, *arguments = sys.argv[1:]
flush = storage.flush


def pause(path: Path) -> None:
    """Sleep between a checkpoint's parts and its state."""
    flush(path)
    if path.suffix == ".safetensors" and path.parent.name.startswith(f"step-{int(step):06d}"):
        Path(marker).touch()
        time.sleep(600)


if __name__ == "__main__":
    storage.flush = pause
    run_command(["train", *arguments])
