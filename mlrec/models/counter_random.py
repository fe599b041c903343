"""Random numbers as a function of counters.

There is no generator whose state depends on what was drawn before, so the numbers do not depend on
the order of the work or on how ranks and chunks divide it. Integer arithmetic only: devices agree.
"""

from __future__ import annotations

import numpy as np
import torch


def random_keys(counters: torch.Tensor, *seeds: int) -> torch.Tensor:
    """Return a random int64 for each int64 counter, a function of the counter and `seeds`."""
    # numpy's seed sequence mixes the seeds well, also small and neighbouring ones
    start = np.random.SeedSequence(seeds).generate_state(1, np.uint64).view(np.int64)[0]
    return mixed(mixed(counters) + int(start))


def mixed(values: torch.Tensor) -> torch.Tensor:
    """Return int64 `values` after splitmix64's finaliser (Steele, Lea and Flood, 2014).

    Products wrap around in int64 as they do in uint64.
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        # int64 shifts copy the sign bit, and splitmix64 shifts zeros in
        shifted = (values >> shift) & ((1 << (64 - shift)) - 1)
        # the factor as an int64: Python's integers do not wrap around
        values = (values ^ shifted) * (factor - (1 << 64) if factor >> 63 else factor)
    return values
