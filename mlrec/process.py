"""How a command ends: one clear sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


def run_main(main: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    """Runs a command; its exit code: 2 for bad input (ValueError), 1 for what went wrong on the way (RuntimeError)."""
    try:
        main(arguments)
    except ValueError as error:
        if os.environ.get("RANK", "0") == "0":  # every rank found the same
            print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except RuntimeError as error:
        print(f"error on rank {os.environ.get('RANK', '0')}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
