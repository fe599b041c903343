"""mlrec bench eval: full ranking on random weights, beside the matrix product and top-k that no ranking can do without."""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import numpy as np
import torch

from mlrec.bench.measure import device_name
from mlrec.bench.ranks import run_on_ranks
from mlrec.bench.result import Result
from mlrec.config import Config
from mlrec.data.catalogue_pass import ranked_items
from mlrec.data.stream import Data
from mlrec.evaluation.ranking import Ranking
from mlrec.models.building import build_model
from mlrec.runtime.distributed import World, max_over_ranks, sum_over_ranks
from mlrec.runtime.flops import now
from mlrec.runtime.progress import track

TOP = 20
"""K of the bare top-k: the paper's largest cut-off."""


def run(options: argparse.Namespace) -> Result | None:
    """Measures; collective.

    Raises:
        ValueError: as in run_on_ranks.
    """
    return run_on_ranks(options, partial(measure_ranking, steps=options.steps), _result)


@torch.no_grad()
def measure_ranking(config: Config, data: Data, world: World, steps: int) -> dict[str, Any]:
    """Figures of ranking `steps` chunks of users, each followed by its bare form; every rank ranks as many users."""
    model = build_model(config, data, world.rank).to(world.device).eval()
    size, width = len(ranked_items(data)), config.recommender.width
    items_ND = torch.randn(size, width, device=world.device)
    ranking = Ranking(
        model, data, items_ND, torch.ones(size, dtype=torch.bool, device=world.device)
    )
    chunk = min(config.evaluate.user_chunk, data.sequences.num_users)
    states_BD = torch.randn(chunk, width, device=world.device)
    ours_s = bare_s = ours_cpu_s = bare_cpu_s = 0.0
    for step in track(range(steps + 1), "ranking chunks of users"):
        users_B = (np.arange(chunk) + step * chunk) % data.sequences.num_users
        began, began_cpu = now(world.device), time.process_time()
        ranking.count(users_B, "test")
        ranked, ranked_cpu = now(world.device), time.process_time()
        torch.topk(states_BD @ items_ND.T, min(TOP, size), dim=1)
        done, done_cpu = now(world.device), time.process_time()
        if step:  # the first one warms up
            ours_s, bare_s = ours_s + ranked - began, bare_s + done - ranked
            ours_cpu_s, bare_cpu_s = (
                ours_cpu_s + ranked_cpu - began_cpu,
                bare_cpu_s + done_cpu - ranked_cpu,
            )
    ours_s, bare_s = max_over_ranks(
        torch.tensor([ours_s, bare_s], dtype=torch.float64, device=world.device)
    ).tolist()
    users = int(sum_over_ranks(torch.tensor([chunk * steps], device=world.device)))
    return {
        "ranks": world.size,
        "users": users,
        "user_chunk": chunk,
        "catalogue_size": size,
        "width": width,
        "users_per_s": users / ours_s,
        "limit_users_per_s": users / bare_s,
        "of_limit": bare_s / ours_s,
        "cpu_of_limit": bare_cpu_s / ours_cpu_s,
    }


def _result(config: Config, world: World, figures: dict[str, Any]) -> Result:
    measured = (
        f"full ranking of {figures['catalogue_size']:,} items by {config.recommender.name} of width {figures['width']}, "
        f"{figures['user_chunk']} users at a time"
    )
    rows = [
        ("", "users/s"),
        ("full ranking", f"{figures['users_per_s']:,.0f}"),
        (f"bare matrix product and top-{TOP}", f"{figures['limit_users_per_s']:,.0f}"),
        ("ranking, of the bare product", f"{figures['of_limit']:.0%}"),
    ]
    if world.device.type == "cpu":
        rows.append(
            (
                "the same in seconds of CPU, free of other work on the cores",
                f"{figures['cpu_of_limit']:.0%}",
            )
        )
    return Result("eval", measured, device_name(world.device, world.size), figures, [rows])
