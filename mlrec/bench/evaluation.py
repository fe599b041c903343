"""mlrec bench eval: full ranking on random weights, next to its lower bound.

The bound is the matrix product and the top-k that no ranking can do without.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch

from mlrec.bench.measure import Seconds, device_name
from mlrec.bench.ranks import run_on_ranks
from mlrec.bench.result import Result, Row
from mlrec.config import Config
from mlrec.data.catalogue_pass import ranked_items
from mlrec.data.stream import Data
from mlrec.evaluation.ranking import Ranking
from mlrec.models.building import build_model
from mlrec.runtime.distributed import World, max_over_ranks, sum_over_ranks
from mlrec.runtime.flops import now
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import track

TOP_K = 20
"""Items that the bare top-k selects: the paper's largest cut-off."""


@dataclass(frozen=True)
class RankingBench:
    """What `mlrec bench eval` measured; field names are the keys of --json."""

    ranks: int
    users: int
    """Users that all ranks ranked."""
    user_chunk: int
    """Users that a rank ranks at a time."""
    catalogue_size: int
    """Items that are ranked."""
    width: int
    """Width of an item vector."""
    users_per_s: float
    limit_users_per_s: float
    """Users per second of the bare product and top-k."""
    of_limit: float
    """Share of the limit that full ranking reaches."""
    cpu_of_limit: float
    """The same share in CPU seconds, which other work on the cores does not change."""


def run(options: argparse.Namespace) -> Result | None:
    """Measure, and return the result on rank 0; collective.

    Raises:
        ValueError: the configuration does not fit, as in run_on_ranks.
    """
    return run_on_ranks(options, partial(measure_ranking, steps=options.steps), _result)


@torch.no_grad()
def measure_ranking(config: Config, data: Data, world: World, steps: int) -> RankingBench:
    """Rank `steps` chunks of users on every rank, each followed by the bare product and top-k."""
    model = build_model(config, data, world.rank).to(world.device).eval()
    size = len(ranked_items(data))
    width = config.recommender.width
    # The time does not depend on the values, so that no catalogue has to be encoded.
    items_ND = torch.randn(size, width, device=world.device)
    readable_N = torch.ones(size, dtype=torch.bool, device=world.device)
    ranking = Ranking(model, data, items_ND, readable_N)
    users_V = data.sequences.evaluated_users("test")
    chunk = min(config.evaluate.user_chunk, len(users_V))
    states_BD = torch.randn(chunk, width, device=world.device)
    full_times: list[Seconds] = []
    bare_times: list[Seconds] = []
    # Both take turns, so that a change in the machine's speed affects both alike.
    for step in track(range(steps + 1), "ranking chunks of users"):
        users_B = users_V[(np.arange(chunk) + step * chunk) % len(users_V)]
        start = _moment(world)
        ranking.count(users_B, "test")
        ranked = _moment(world)
        torch.topk(states_BD @ items_ND.T, min(TOP_K, size), dim=1)
        end = _moment(world)
        if step > 0:  # the first chunk warms up
            full_times.append(ranked.since(start))
            bare_times.append(end.since(ranked))
    full = _total(full_times)
    bare = _total(bare_times)
    # All ranks rank the same number of users. The slowest rank sets the speed.
    own_seconds = torch.tensor(
        [full.elapsed_s, bare.elapsed_s], dtype=torch.float64, device=world.device
    )
    full_s, bare_s = max_over_ranks(own_seconds).tolist()
    users = int(sum_over_ranks(torch.tensor([chunk * steps], device=world.device)))
    return RankingBench(
        ranks=world.size,
        users=users,
        user_chunk=chunk,
        catalogue_size=size,
        width=width,
        users_per_s=users / full_s,
        limit_users_per_s=users / bare_s,
        of_limit=bare_s / full_s,
        cpu_of_limit=bare.cpu_s / full.cpu_s,
    )


def _moment(world: World) -> Seconds:
    # now() waits for the device, and has to come before the CPU clock.
    elapsed_s = now(world.device)
    return Seconds(elapsed_s, time.process_time())


def _total(times: Sequence[Seconds]) -> Seconds:
    total = Seconds(0.0, 0.0)
    for duration in times:
        total = Seconds(total.elapsed_s + duration.elapsed_s, total.cpu_s + duration.cpu_s)
    return total


def _result(config: Config, world: World, bench: RankingBench) -> Result:
    measured = (
        f"full ranking of {counted(bench.catalogue_size, 'item')} by {config.recommender.name} "
        f"of width {bench.width}, {counted(bench.user_chunk, 'user')} at a time"
    )
    rows: list[Row] = [
        ("", "users/s"),
        ("full ranking", f"{bench.users_per_s:,.0f}"),
        (f"bare matrix product and top-{TOP_K}", f"{bench.limit_users_per_s:,.0f}"),
        ("ranking, of the bare product", f"{bench.of_limit:.0%}"),
    ]
    if world.device.type == "cpu":
        rows.append(("ranking, of the bare product, in CPU seconds", f"{bench.cpu_of_limit:.0%}"))
    device = device_name(world.device, world.size)
    return Result("eval", measured, device, asdict(bench), [rows])
