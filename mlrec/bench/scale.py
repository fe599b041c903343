"""mlrec bench scale: the plan's arithmetic for 1 to 4,096 ranks on the data set at hand, without running any of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

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
from mlrec.models.building import build_model
from mlrec.runtime.distributed import World, gather, start_world, stop_world
from mlrec.runtime.flops import now
from mlrec.runtime.progress import track

RANKS = tuple(4**power for power in range(7))
VECTOR_BYTES = 4
"""Of an element of an item vector in the exchange, fp32."""
EXCHANGED = 1 << 26
"""Bytes of the exchange that is measured."""
ROUNDS = 3


@dataclass(frozen=True)
class ScaleRow:
    """A step on some number of ranks."""

    ranks: int
    users: int
    """Of the global batch."""
    slots: int
    """Real ones of the users' training sequences."""
    distinct_items: int
    items_per_rank: tuple[int, int]
    """Fewest and most."""
    read_bytes_per_rank: float
    """Of the items that the rank with most of them owns, whole samples at the data set's mean."""
    exchange_bytes_per_rank: float
    """That the rank receives: all-gather forward, reduce-scatter backward."""
    encode_s: float
    exchange_s: float

    @property
    def step_s(self) -> float:
        """Predicted: encoding, then the exchange."""
        return self.encode_s + self.exchange_s


def run(options: argparse.Namespace) -> Result | None:
    """Counts, and measures the rates that are not given; collective.

    Raises:
        ValueError: there is no data set at the URL, a number is not above 0, or there is nothing to measure the rates with.
    """
    for name in ("users_per_rank", "global_batch", "videos_per_s", "gb_per_s"):
        if (value := getattr(options, name)) is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be above 0")
    if options.out is not None and options.out.suffix != ".svg":
        raise ValueError(f"--out {options.out} must end in .svg")
    if options.videos_per_s is None and not options.config:
        raise ValueError(
            "give --videos-per-s, as mlrec bench step tells it, or a CONFIG whose item tower is to be measured"
        )
    config = configuration.load_arguments(options.config)
    data = open_data(DataConfig(url=options.url, cache_dir=config.data.cache_dir))
    world = start_world()
    videos_per_s = options.videos_per_s or measure_videos_per_s(config, data, world)
    gb_per_s = options.gb_per_s or measure_gb_per_s(world)
    device = device_name(world.device, world.size)
    stop_world()
    if not world.is_main:
        return None
    batches = {"users_per_rank": options.users_per_rank, "global_batch": options.global_batch}
    width = config.recommender.width
    rates = (width, videos_per_s, gb_per_s)
    rows = {
        "users_per_rank": scale(
            data, [(ranks, options.users_per_rank * ranks) for ranks in RANKS], *rates
        ),
        "global_batch": scale(data, [(ranks, options.global_batch) for ranks in RANKS], *rates),
    }
    titles = {
        "users_per_rank": f"{options.users_per_rank} users a rank",
        "global_batch": f"global batch {options.global_batch}",
    }
    if options.out is not None:
        scale_figure.write(options.out, rows, titles)
    as_dicts = {
        kind: [asdict(row) | {"step_s": row.step_s} for row in found]
        for kind, found in rows.items()
    }
    figures = {
        **batches,
        "width": width,
        "videos_per_s": videos_per_s,
        "gb_per_s": gb_per_s,
        "rows": as_dicts,
    }
    measured = (
        f"plan of {options.url} on 1 to {RANKS[-1]:,} ranks; a rank trains on {videos_per_s:,.1f} videos/s and exchanges "
        f"{gb_per_s:,.2f} GB/s of vectors of width {width}"
    )
    return Result(
        "scale",
        measured,
        device,
        figures,
        [_table(titles[kind], found) for kind, found in rows.items()],
    )


def scale(
    data: Data, sizes: Sequence[tuple[int, int]], width: int, videos_per_s: float, gb_per_s: float
) -> list[ScaleRow]:
    """The first step of each (ranks, users of the global batch), at most all users; left out where a rank would have none."""
    stored_bytes = sum(shard.size for shard in data.info.shards("items")) / max(
        1, int(data.catalogue.ok_N1.sum())
    )
    rows = []
    for ranks, users in track(sizes, "planning"):
        try:
            plan = Plan(
                data.sequences, 0, min(users, data.sequences.num_users), Owners((ranks,))
            ).step(0)
        except ValueError:  # fewer users than ranks
            continue
        most, distinct = max(plan.owned_W), len(plan.items_U)
        exchanged = 2 * (distinct - most) * width * VECTOR_BYTES
        rows.append(
            ScaleRow(
                ranks=ranks,
                users=len(plan.users_G),
                slots=int((plan.slots_GT >= 0).sum()),
                distinct_items=distinct,
                items_per_rank=(min(plan.owned_W), most),
                read_bytes_per_rank=most * stored_bytes,
                exchange_bytes_per_rank=exchanged,
                encode_s=most / videos_per_s,
                exchange_s=exchanged / gb_per_s / 1e9,
            )
        )
    return rows


def measure_videos_per_s(config: Config, data: Data, world: World) -> float:
    """Items per second that go through the item tower, forward and backward, on made-up media."""
    tower = build_model(config, data, world.rank).tower.to(world.device)
    count = 2 * tower.chunk
    media = MediaPool(tower.specs, world.device).of(
        torch.arange(count, device=world.device) % tower.catalogue_size + 1
    )
    keys = torch.arange(count)  # any: the time does not depend on what dropout draws
    times = []
    for _ in track(range(1 + ROUNDS), "measuring the item tower"):
        began = now(world.device)
        torch.autograd.backward(tower.encode(media, count, world.device, keys).sum())
        times.append(now(world.device) - began)
    return count / min(times[1:])


def measure_gb_per_s(world: World) -> float:
    """GB per second that a rank receives in an all-gather; alone, that it copies within its memory."""
    size = EXCHANGED // VECTOR_BYTES // world.size
    own = torch.ones(size, device=world.device)
    times = []
    for _ in range(1 + ROUNDS):
        began = now(world.device)
        received = own.clone() if world.size == 1 else gather(own, (size,) * world.size)
        times.append(now(world.device) - began)
    received_bytes = VECTOR_BYTES * (len(received) - (0 if world.size == 1 else size))
    return received_bytes / min(times[1:]) / 1e9


def _table(title: str, rows: Sequence[ScaleRow]) -> list[Row]:
    header = (
        "ranks",
        "users",
        "slots/video",
        "videos",
        "videos a rank",
        "MB read a rank",
        "MB exchanged a rank",
        "s a step",
        "users/s",
    )
    lines = [header]
    for row in rows:
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
    return [(f"{title}: ranks", *header[1:]), *lines[1:]]
