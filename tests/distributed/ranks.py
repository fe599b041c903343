"""Real ranks over gloo: a function run in several processes, and functions for it to run."""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as multiprocessing

from mlrec.config import load
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch, Modality
from mlrec.data.stream import StepDataset, open_data
from mlrec.models.recommender import NO_HOOKS
from mlrec.runs import checkpoint
from mlrec.runtime.distributed import start_world, stop_world, sum_over_ranks

PRELOADED = [
    "deepspeed",
    "mlrec.train.loop",
    "peft",
    "torch._dynamo",  # imported by ZeRO-3 and by activation checkpointing
    "torch.utils.cpp_extension",
]
"""Modules that a rank is forked with. Importing them takes 6 CPU seconds for each rank."""


def run_ranks(
    function: Callable[..., Any], world_size: int, folder: Path, *arguments: Any
) -> list[Any]:
    """Return the results of `function(*arguments)` on every rank, which pass through JSON files."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    multiprocessing.set_forkserver_preload(PRELOADED)
    multiprocessing.start_processes(
        _enter,
        (function, world_size, port, str(folder), arguments),
        nprocs=world_size,
        start_method="forkserver",
    )
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(world_size)]


def _enter(
    rank: int,
    function: Callable[..., Any],
    world_size: int,
    port: int,
    folder: str,
    arguments: tuple[Any, ...],
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
    )
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    # DeepSpeed collects garbage for each engine; without the preloaded objects that is quick
    gc.freeze()
    Path(folder, f"rank{rank}.json").write_text(json.dumps(function(*arguments)))


def train_runs(
    runs: dict[str, list[str]], first: int, last: int, resume_from: str = "", noise: bool = False
) -> dict[str, dict[str, Any]]:
    """Train each run (name: overrides) from step `first` to `last`, and save a checkpoint.

    Args:
        resume_from: run folder to resume, with {name} for the run's name; empty for a new run.
        noise: replace the videos by noise that depends only on the item, and not on a codec.

    Returns:
        Per run: losses of the steps, items encoded in each step by this rank, distinct items of
        each step, the first 64 gradient elements by parameter at the first step, this rank's
        items in each step whose activations were cached, the bytes read, and the losses of the
        next step's batch by the trained, the averaged and again the trained weights.
    """
    from deepspeed.utils import safe_get_full_grad

    from mlrec.models.building import build_model, training_dtype
    from mlrec.train.engine import build_engine

    world = start_world()
    results = {}
    for name, overrides in runs.items():
        config = load([], [*overrides, f"name={name}"])
        data = open_data(config.data)
        plan = Plan(
            data.sequences,
            config.seed,
            config.train.global_batch,
            data.owners(config.train.global_batch, world.nodes),
        )
        model = build_model(config, data, world.rank)
        cache = model.tower.build_activation_cache(
            config.item.prefix_cache_bytes, training_dtype(config), world.device
        )
        resumed = (
            checkpoint.newest(Path(resume_from.replace("{name}", name))) if resume_from else None
        )
        engine = build_engine(
            config, model, world, plan.steps_per_epoch, 12, resumed, plan.most_items(12)
        )
        encoded: list[int] = []
        model.tower.encoders[0].register_forward_hook(
            lambda module, inputs, output, seen=encoded: seen.append(len(output))
        )
        local_negatives = config.loss.negatives == "local"
        dataset = StepDataset(
            data,
            plan,
            world.rank,
            model.tower.specs,
            local_negatives,
            model.whole_catalogue,
            cached_items=cache.items if cache else None,
        )
        losses = []
        counts = []
        distinct = []
        gradients = {}
        hits = []
        bytes_read = []
        for step in range(first, last):
            batch = dataset[step]
            if noise:
                put_noise(batch, world.rank)
            encoded.clear()
            loss = engine.forward(batch)
            counts.append(sum(encoded))
            hits.append(0 if batch.cached_O is None else int(batch.cached_O.sum()))
            bytes_read.append(batch.bytes_read)
            distinct.append(len(batch.items_U))
            engine.backward(loss)
            if step == first:
                for parameter_name, parameter in engine.state.trained.items():
                    gradient = safe_get_full_grad(parameter)
                    gradients[parameter_name] = gradient.flatten()[:64].tolist()
            engine.update()
            losses.append(float(sum_over_ranks(loss.detach().clone())) / world.size)
        state = checkpoint.TrainingState(
            last, config.seed, data.info.fingerprint, config.train.global_batch
        )
        engine.save(config.run_path, replace(state, metrics={}))
        results[name] = {
            "losses": losses,
            "encoded": counts,
            "distinct": distinct,
            "gradients": gradients,
        }
        results[name] |= {"hits": hits, "bytes_read": bytes_read}
        results[name]["averaged"] = losses_of_averages(engine, dataset[last], noise)
    stop_world()
    return results


def losses_of_averages(engine: Any, batch: Batch, noise: bool) -> list[float]:
    """Return a batch's mean loss by the trained, the averaged and again the trained weights."""
    if noise:
        put_noise(batch, engine.world.rank)
    engine.deepspeed.eval()
    losses = []
    for averaged in (False, True, False):
        with torch.no_grad(), engine.state.ready_to_evaluate() if averaged else nullcontext():
            loss = engine.deepspeed(batch, NO_HOOKS)
        losses.append(float(sum_over_ranks(loss.clone())) / engine.world.size)
    return losses


def put_noise(batch: Batch, rank: int) -> None:
    """Replace the videos of a batch by noise."""
    start = sum(batch.owned_W[:rank])
    own = batch.items_U[start : start + batch.owned_W[rank]].tolist()
    for spec, media in batch.media.items():
        if spec.modality is Modality.VIDEO:
            for row, item in enumerate(own):
                generator = np.random.default_rng(item)
                noise = generator.integers(0, 256, media[row].shape, dtype=np.uint8)
                media[row] = torch.from_numpy(noise)


def exchange_gradients(seed: int) -> dict[str, list[Any]]:
    """Exchange ragged shares, and return all vectors and the gradient of this rank's own."""
    from mlrec.runtime.distributed import exchange

    world = start_world()
    owned = (3, 2, 0)[: world.size]
    generator = torch.Generator().manual_seed(seed)
    everything = torch.randn(sum(owned), 4, generator=generator)
    start = sum(owned[: world.rank])
    own = everything[start : start + owned[world.rank]].clone().requires_grad_()
    seen = exchange(own, owned, world.rank)
    weights = torch.arange(1.0, 1.0 + seen.numel()).view_as(seen) * (world.rank + 1)
    (seen * weights).sum().backward()
    stop_world()
    return {"seen": seen.tolist(), "gradient": own.grad.tolist(), "expected": everything.tolist()}


def rank_untrained(overrides: list[str]) -> dict[str, dict[str, float]]:
    """Return the metrics by an untrained model: of both splits, and of a sample of one user."""
    from mlrec.data.format import SPLITS
    from mlrec.evaluation.evaluate import evaluate
    from mlrec.models.building import build_model

    world = start_world()
    config = load([], overrides)
    data = open_data(config.data)
    model = build_model(config, data, world.rank)
    metrics = {}
    for split in SPLITS:
        metrics[split] = evaluate(model, data, config, world, split).metrics["all"]
    sampling = replace(config, evaluate=replace(config.evaluate, users=1))
    sample = evaluate(model, data, sampling, world, "test", sampled=True)
    metrics["sample of test"] = sample.metrics["all"]
    stop_world()
    return metrics
