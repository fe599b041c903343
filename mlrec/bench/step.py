"""mlrec bench step: a training step on made-up media, its parts, and its share of what the device can do."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from mlrec.bench.made_up import MadeUpSteps, MediaPool
from mlrec.bench.measure import device_name, peak, reset_peak
from mlrec.bench.padded import RankPlan, encode_slots, slots_of
from mlrec.bench.ranks import run_on_ranks
from mlrec.bench.result import Result
from mlrec.config import Config
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.stream import Data, stream_steps
from mlrec.models.building import build_model, training_dtype
from mlrec.runtime.distributed import World, max_over_ranks, sum_over_ranks
from mlrec.runtime.flops import FlopCounter, matrix_product_flops_per_s, now
from mlrec.runtime.progress import track
from mlrec.train.engine import Engine

PARTS = ("wait", "encode", "exchange", "recommend", "optimizer")
"""Of a step, in order: for the batch; forward and backward of the item tower, media's way to the device with it, of the exchange,
of recommender and loss; the update, with what DeepSpeed does beside it. Planning happens while the device is at another step."""

Encode = Callable[[Batch], torch.Tensor]


@dataclass
class Side:
    """What was measured of one way to do a step."""

    step_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    """Of this process in a step: what other work on the cores does not change."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    users: int = 0
    videos: int = 0
    """Encoded, padding included."""
    slots: int = 0
    """Real ones of the users' training sequences."""
    loss: float = 0.0
    """Of the last step."""

    def summed(self, world: World) -> dict[str, Any]:
        """The figures over all ranks, of which the slowest counts; collective."""
        counts = torch.tensor(
            [self.users, self.videos, self.slots], dtype=torch.float64, device=world.device
        )
        users, videos, slots = sum_over_ranks(counts).tolist()
        slowest = torch.tensor(
            [sum(self.step_s), *self.seconds.values()], dtype=torch.float64, device=world.device
        )
        total_s, *seconds = max_over_ranks(slowest).tolist()
        steps = len(self.step_s)
        return {
            "users_per_s": users / total_s,
            "videos_per_s": videos / total_s,
            "users_per_step": users / steps,
            "videos_per_step": videos / steps,
            "slots_per_video": slots / videos,
            "step_s": total_s / steps,
            "cpu_s": sum(self.cpu_s) / steps,
            "seconds": {part: value / steps for part, value in zip(PARTS, seconds, strict=True)},
        }


class Clock:
    """Divides a step's time into parts, where the model's halves meet, forward and backward."""

    def __init__(self, engine: Engine, device: torch.device) -> None:
        self.engine, self.device = engine, device
        self._prepare = engine.model.prepare
        self._side, self._last = Side(), 0.0

    def _lap(self, part: str) -> None:
        reached = now(self.device)
        self._side.seconds[part] += reached - self._last
        self._last = reached

    def step(self, side: Side, stream: Iterator[Batch], encode: Encode) -> Batch:
        """One optimizer step on the stream's next batch, with `encode` as the model's own; adds it to `side`."""
        model, self._side = self.engine.model, side
        began = self._last = now(self.device)
        began_cpu = time.process_time()
        batch = next(stream).to(self.device)
        self._lap("wait")

        def timed_encode(batch: Batch) -> torch.Tensor:
            own_OD = encode(batch)
            self._lap("encode")
            return self._watched(own_OD, "exchange")

        def timed_prepare(
            ids_U: torch.Tensor, items_UD: torch.Tensor, valid_U: torch.Tensor
        ) -> Any:
            self._lap("exchange")
            return self._prepare(ids_U, self._watched(items_UD, "recommend"), valid_U)

        model.encode_owned, model.prepare = timed_encode, timed_prepare  # type: ignore[method-assign]
        loss = self.engine.forward(batch)
        self._lap("recommend")
        self.engine.backward(loss)
        self._lap("encode")
        self.engine.update()
        self._lap("optimizer")
        side.step_s.append(self._last - began)
        side.cpu_s.append(time.process_time() - began_cpu)
        side.users += len(batch.users_B)
        side.slots += int((slots_of(batch) >= 0).sum())
        side.loss = float(loss.detach())
        return batch

    def _watched(self, vectors: torch.Tensor, part: str) -> torch.Tensor:
        """The vectors; when their gradient is there, what came before it was `part`'s backward."""
        vectors = vectors.view_as(
            vectors
        )  # on one rank the exchange gives back what it got: two places to watch all the same
        if vectors.requires_grad:
            vectors.register_hook(lambda gradient: self._lap(part))  # type: ignore[no-untyped-call]
        return vectors


def run(options: argparse.Namespace) -> Result | None:
    """Measures; collective.

    Raises:
        ValueError: as in run_on_ranks.
    """
    return run_on_ranks(
        options,
        partial(measure_step, steps=options.steps, padded=options.baseline is not None),
        _result,
    )


def measure_step(
    config: Config, data: Data, world: World, steps: int, padded: bool
) -> dict[str, Any]:
    """Figures of `steps` steps after one to warm up; with `padded`, of the baseline's same steps between them; collective.

    Raises:
        ValueError: the recommender takes the whole catalogue in each step, for which there is no padded form.
    """
    plan = Plan(
        data.sequences,
        config.seed,
        config.train.global_batch,
        data.owners(config.train.global_batch, world.nodes),
    )
    model = build_model(config, data, world.rank)
    if padded and model.whole_catalogue:
        raise ValueError(
            f"--baseline padded: {config.recommender.name} with {config.loss.name} encodes the catalogue, no slots"
        )
    specs, width = model.tower.specs, data.info.split.keep_last - 2
    dataset = MadeUpSteps(
        data,
        plan,
        world.rank,
        MediaPool(specs),
        config.loss.negatives == "local",
        model.whole_catalogue,
    )
    # padded, a rank encodes more: both steps hold their activations where the larger one can, or neither does
    items = (
        -(-config.train.global_batch // world.size) * width
        if padded
        else plan.most_items(steps + 1, dataset.items_N)
    )
    engine = Engine(config, model, world, plan.steps_per_epoch, steps + 1, items=items)
    stream = stream_steps(
        dataset, 0, steps + 1, config.data.num_workers, pin_memory=world.device.type == "cuda"
    )
    clock, encode, ours, theirs = Clock(engine, world.device), model.encode_owned, Side(), Side()
    alone = MadeUpSteps(
        data,
        RankPlan(plan, config.train.global_batch, world.rank),
        0,
        None,
        local=True,
        whole_catalogue=False,
    )
    pool = MediaPool(specs, world.device, floats=True)

    with FlopCounter() as counter:
        clock.step(Side(), stream, encode)
    plan_s, peak_bytes, resident_bytes = 0.0, 0, 0
    losses: list[tuple[float, float]] = []
    for step in track(range(1, steps + 1), "measuring steps"):
        began = now(world.device)
        users_G = plan.step(step, dataset.items_N).users_G
        plan_s += now(world.device) - began
        resident_bytes = reset_peak(world.device)
        batch = clock.step(ours, stream, encode)
        peak_bytes = max(peak_bytes, peak(world.device))
        ours.videos += len(batch.valid_O)
        if padded:
            most = -(-len(users_G) // world.size) * width
            batch = clock.step(
                theirs, iter([alone[step]]), partial(encode_slots, model.tower, pool, most)
            )
            theirs.videos += len(batch.users_B) * width
            losses.append((ours.loss, theirs.loss))

    found = ours.summed(world)
    limit = matrix_product_flops_per_s(world.device, training_dtype(config))
    flops = counter.total
    figures: dict[str, Any] = {
        "global_batch": config.train.global_batch,
        "ranks": world.size,
        "steps": steps,
        "encoders": list(config.item.encoders),
        "precision": config.train.precision,
        "parameters": engine.parameter_counts(),
        "recomputes": model.tower.recomputes and model.tower.trained,
        **found,
        "plan_s": plan_s / steps,
        "wait_share": found["seconds"]["wait"] / found["step_s"],
        "flops_per_step": flops,
        "limit_flops_per_s": limit,
        "of_limit": flops / found["step_s"] / limit,
        "peak_bytes": peak_bytes,
        "step_bytes": peak_bytes - resident_bytes,
    }
    if padded:
        ratios = [b / a for a, b in zip(ours.step_s, theirs.step_s, strict=True)]
        figures |= {
            "padded": theirs.summed(world),
            "speedup": statistics.median(ratios),
            "speedups": ratios,
            "losses": losses,
        }
        figures["cpu_speedup"] = sum(theirs.cpu_s) / sum(ours.cpu_s)
    return figures


def _result(config: Config, world: World, figures: dict[str, Any]) -> Result:
    sides = {"mlrec": figures} | ({"padded": figures["padded"]} if "padded" in figures else {})
    rows = [("", *sides)]
    for key, text in (
        ("users_per_s", "users/s"),
        ("videos_per_s", "videos/s"),
        ("videos_per_step", "videos encoded a step"),
        ("slots_per_video", "slots per video"),
    ):
        rows.append((text, *(f"{side[key]:,.2f}" for side in sides.values())))
    rows.append(("seconds a step", *(f"{side['step_s']:.3f}" for side in sides.values())))
    for part in PARTS:
        shares = (side["seconds"][part] / side["step_s"] for side in sides.values())
        rows.append((f"  {part}", *(f"{share:.1%}" for share in shares)))
    facts = [
        ("", ""),
        ("planning, while the device is at another step", f"{1e3 * figures['plan_s']:.1f} ms"),
        (
            "activations of each chunk",
            "computed again backward" if figures["recomputes"] else "held for the backward",
        ),
        ("arithmetic of a step on a rank", f"{figures['flops_per_step'] / 1e9:,.1f} GFLOP"),
        ("peak of a matrix product", f"{figures['limit_flops_per_s'] / 1e9:,.1f} GFLOP/s"),
        ("share of the peak", f"{figures['of_limit']:.1%}"),
        (
            "peak memory of a rank",
            f"{figures['peak_bytes'] / 1e6:,.0f} MB, {figures['step_bytes'] / 1e6:,.0f} MB in the step",
        ),
    ]
    if "speedup" in figures:
        facts.append(("times as fast as padded, median of pairs", f"{figures['speedup']:.2f}"))
        if world.device.type == "cpu":
            facts.append(
                (
                    "the same in seconds of CPU, free of other work on the cores",
                    f"{figures['cpu_speedup']:.2f}",
                )
            )
    measured = (
        f"training step: {', '.join(config.item.encoders)}, {config.recommender.name}, global batch {config.train.global_batch}, "
        f"{config.train.precision}, media in memory"
    )
    return Result("step", measured, device_name(world.device, world.size), figures, [rows, facts])
