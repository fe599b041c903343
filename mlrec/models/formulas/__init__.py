"""Formulas that predict what a run takes, for choices at the start of a run and for plans.

All are pure functions of counts, costs and rates. Each docstring has the formula, what it assumes,
and where its constants come from.

items.py    distinct items of a step
chunks.py   rates of devices, size of chunks, and how many of them are held
memory.py   memory of a rank
times.py    time of a step
"""

from __future__ import annotations

from mlrec.models.formulas.chunks import (
    ACTIVATION_SHARE,
    CPU_EFFICIENCY,
    CPU_RATES,
    LAUNCH_S,
    MAX_CHUNK,
    MIN_CHUNK,
    UNKNOWN_GPU,
    chunk_size,
    gpu_rates,
    held_chunks,
    nominal_rates,
)
from mlrec.models.formulas.items import distinct_items, most_items
from mlrec.models.formulas.memory import (
    LATER_BYTES,
    Partition,
    RankingBytes,
    StateBytes,
    StepBytes,
    allowance_bytes,
    ranking_bytes,
    state_bytes,
)
from mlrec.models.formulas.times import (
    StepSeconds,
    decode_s,
    exchange_bytes,
    exchange_s,
    host_copy_s,
    optimizer_s,
)

__all__ = [
    "ACTIVATION_SHARE",
    "CPU_EFFICIENCY",
    "CPU_RATES",
    "LATER_BYTES",
    "LAUNCH_S",
    "MAX_CHUNK",
    "MIN_CHUNK",
    "UNKNOWN_GPU",
    "Partition",
    "RankingBytes",
    "StateBytes",
    "StepBytes",
    "StepSeconds",
    "allowance_bytes",
    "chunk_size",
    "decode_s",
    "distinct_items",
    "exchange_bytes",
    "exchange_s",
    "gpu_rates",
    "held_chunks",
    "host_copy_s",
    "most_items",
    "nominal_rates",
    "optimizer_s",
    "ranking_bytes",
    "state_bytes",
]
