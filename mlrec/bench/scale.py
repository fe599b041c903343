"""mlrec bench scale: items, bytes and predicted time of a step on 1 to 4,096 ranks.

The figures come from the plan of a data set. No step runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from mlrec import config as configuration
from mlrec.bench import scale_figure
from mlrec.bench.made_up import MediaPool
from mlrec.bench.measure import device_name
from mlrec.bench.result import Result, Row
from mlrec.config import Config, DataConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, open_data
from mlrec.models.building import as_trained, build_model
from mlrec.models.precision import resolve_precision
from mlrec.runtime.distributed import World, gather, start_world, stop_world
from mlrec.runtime.flops import now
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import track

RANKS = (1, 4, 16, 64, 256, 1024, 4096)
VECTOR_BYTES = 4
"""Bytes of an element of an item vector in the exchange (fp32)."""
EXCHANGE_BYTES = 1 << 26
"""Bytes of the all-gather that is measured: enough that its latency does not count."""
MEASURED_ROUNDS = 3
"""Rounds after one to warm up. The fastest counts, because others only add disturbances."""


class Rates(NamedTuple):
    """Rates of a rank that predict the time of a step."""

    width: int
    """Width of an item vector."""
    videos_per_s: float
    """Items per second that a rank encodes, forward and backward."""
    gb_per_s: float
    """GB per second of vectors that a rank receives in the exchange."""


@dataclass(frozen=True)
class ScaleRow:
    """Step on some number of ranks; field names are keys of --json."""

    ranks: int
    users: int
    """Users of the global batch."""
    slots: int
    """Slots of the users' training sequences, without padding."""
    distinct_items: int
    items_per_rank: tuple[int, int]
    """Fewest and most items that a rank encodes."""
    read_bytes_per_rank: float
    """Bytes that the rank with the most items reads: whole samples of the data set's mean size."""
    exchange_bytes_per_rank: float
    """Bytes that this rank receives: all-gather forward, reduce-scatter backward."""
    encode_s: float
    exchange_s: float

    @property
    def step_s(self) -> float:
        """Predicted seconds of the step: encoding, then the exchange."""
        return self.encode_s + self.exchange_s


@dataclass(frozen=True)
class Series:
    """Rows of one way to choose the global batch."""

    title: str
    rows: list[ScaleRow]


def run(options: argparse.Namespace) -> Result | None:
    """Count, and measure the rates that no option states; collective.

    Raises:
        ValueError: no data set at the URL, a number not above 0, or no rate and no item tower to
            measure it with.
    """
    _check(options)
    config = configuration.load_arguments(options.config)
    data = open_data(DataConfig(url=options.url, cache_dir=config.data.cache_dir))
    # Every rank measures, because the exchange is collective. Rank 0 counts and prints.
    world = start_world()
    config = resolve_precision(config, world.device)
    rates = Rates(
        width=config.recommender.width,
        videos_per_s=options.videos_per_s or measure_videos_per_s(config, data, world),
        gb_per_s=options.gb_per_s or measure_gb_per_s(world),
    )
    device = device_name(world.device, world.size)
    stop_world()
    if not world.is_main:
        return None
    series = _both_series(data, options.users_per_rank, options.global_batch, rates)
    if options.out is not None:
        scale_figure.write(options.out, list(series.values()))
    figures = {
        "users_per_rank": options.users_per_rank,
        "global_batch": options.global_batch,
        **rates._asdict(),
        "rows": {kind: _rows_as_json(one.rows) for kind, one in series.items()},
    }
    measured = (
        f"plan of {options.url} on 1 to {RANKS[-1]:,} ranks; a rank trains on "
        f"{rates.videos_per_s:,.1f} videos/s and exchanges {rates.gb_per_s:,.2f} GB/s "
        f"of vectors of width {rates.width}"
    )
    return Result("scale", measured, device, figures, list(map(_table, series.values())))


def _check(options: argparse.Namespace) -> None:
    """Check the options before the data set is opened and anything is measured."""
    for name in ("users_per_rank", "global_batch", "videos_per_s", "gb_per_s"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be above 0")
    if options.out is not None and options.out.suffix != ".svg":
        raise ValueError(f"--out {options.out} must end in .svg")
    if options.videos_per_s is None and not options.config:
        raise ValueError(
            "Cannot predict the time of a step: the speed of encoding is unknown. "
            "Give --videos-per-s, which mlrec bench step prints, "
            "or a CONFIG whose item tower is measured"
        )


def _both_series(
    data: Data, users_per_rank: int, global_batch: int, rates: Rates
) -> dict[str, Series]:
    """Return the rows for a global batch that grows with the ranks, and for one that does not."""
    growing = [(ranks, users_per_rank * ranks) for ranks in RANKS]
    constant = [(ranks, global_batch) for ranks in RANKS]
    return {
        "users_per_rank": Series(
            f"{counted(users_per_rank, 'user')} a rank", scale(data, growing, rates)
        ),
        "global_batch": Series(f"global batch {global_batch}", scale(data, constant, rates)),
    }


def _rows_as_json(rows: Sequence[ScaleRow]) -> list[dict[str, Any]]:
    # asdict leaves properties out
    return [asdict(row) | {"step_s": row.step_s} for row in rows]


def scale(data: Data, sizes: Sequence[tuple[int, int]], rates: Rates) -> list[ScaleRow]:
    """Return the first step for each (ranks, users of the global batch).

    The batch is at most all users. A number of ranks above the number of users has no row.
    """
    items_bytes = sum(shard.size for shard in data.info.shards("items"))
    bytes_per_item = items_bytes / max(1, int(data.catalogue.ok_N1.sum()))
    rows = []
    for ranks, wanted_users in track(sizes, "planning"):
        users = min(wanted_users, data.sequences.num_train_users)
        try:
            plan = Plan(data.sequences, 0, users, Owners((ranks,))).step(0)
        except ValueError:  # fewer users than ranks
            continue
        # The rank with the most items ends last, and it sets the pace of all.
        most_items = max(plan.owned_W)
        distinct_items = len(plan.items_U)
        # It receives the vectors of all other ranks, and as many gradients on the way back.
        exchanged_bytes = 2 * (distinct_items - most_items) * rates.width * VECTOR_BYTES
        rows.append(
            ScaleRow(
                ranks=ranks,
                users=len(plan.users_G),
                slots=int((plan.slots_GT >= 0).sum()),
                distinct_items=distinct_items,
                items_per_rank=(min(plan.owned_W), most_items),
                read_bytes_per_rank=most_items * bytes_per_item,
                exchange_bytes_per_rank=exchanged_bytes,
                encode_s=most_items / rates.videos_per_s,
                exchange_s=exchanged_bytes / rates.gb_per_s / 1e9,
            )
        )
    return rows


def measure_videos_per_s(config: Config, data: Data, world: World) -> float:
    """Return the items per second that the item tower encodes, forward and backward.

    Their media are made up.
    """
    tower = build_model(config, data, world.rank).tower
    as_trained(tower, config, world.device)
    count = 2 * tower.chunk
    items = torch.arange(count, device=world.device) % tower.catalogue_size + 1
    media = MediaPool(tower.specs, world.device).of(items)
    # Any keys do: the time does not depend on what dropout draws.
    keys = torch.arange(count)
    durations_s = []
    for _ in track(range(1 + MEASURED_ROUNDS), "measuring the item tower"):
        start_s = now(world.device)
        vectors = tower.encode(media, count, world.device, keys)
        torch.autograd.backward(vectors.sum())
        durations_s.append(now(world.device) - start_s)
    return count / min(durations_s[1:])


def measure_gb_per_s(world: World) -> float:
    """Return the GB per second that a rank receives in an all-gather; collective.

    A single rank receives nothing, and gets the speed of a copy within its memory.
    """
    size = EXCHANGE_BYTES // VECTOR_BYTES // world.size
    own = torch.ones(size, device=world.device)
    durations_s = []
    for _ in range(1 + MEASURED_ROUNDS):
        start_s = now(world.device)
        gathered = own.clone() if world.size == 1 else gather(own, (size,) * world.size)
        durations_s.append(now(world.device) - start_s)
    # A rank's own part does not travel.
    received = len(gathered) if world.size == 1 else len(gathered) - size
    return VECTOR_BYTES * received / min(durations_s[1:]) / 1e9


def _table(series: Series) -> list[Row]:
    header = (
        f"{series.title}: ranks",
        "users",
        "slots/video",
        "videos",
        "videos a rank",
        "MB read a rank",
        "MB exchanged a rank",
        "s a step",
        "users/s",
    )
    lines: list[Row] = [header]
    for row in series.rows:
        fewest, most = row.items_per_rank
        lines.append(
            (
                f"{row.ranks:,}",
                f"{row.users:,}",
                f"{row.slots / row.distinct_items:.1f}",
                f"{row.distinct_items:,}",
                f"{most:,}" if fewest == most else f"{fewest:,}-{most:,}",
                f"{row.read_bytes_per_rank / 1e6:,.1f}",
                f"{row.exchange_bytes_per_rank / 1e6:,.2f}",
                f"{row.step_s:.3f}",
                f"{row.users / row.step_s:,.0f}",
            )
        )
    return lines
