"""Parts of mlrec that run on either device: steps, encoders and whole runs.

Every action returns numbers that must be the same on both devices.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from small_encoders import media_of, small_tower

from mlrec.bench.evaluation import measure_ranking
from mlrec.bench.prefix import measure_prefix
from mlrec.bench.step import measure_step
from mlrec.config import LossConfig, RecommenderConfig
from mlrec.data.features.info import VECTORS_FILE
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch, Step
from mlrec.data.stream import StepDataset
from mlrec.evaluation.extract import extract
from mlrec.models.building import build_model
from mlrec.models.recommenders import RECOMMENDERS
from mlrec.models.tower import ItemTower
from mlrec.serving.export import export
from mlrec.serving.recommend import recommend
from mlrec.train import loop
from mlrec.train.meter import Meter
from pretended_gpu.device import CPU, host_values
from pretended_gpu.lab import Lab, encoders
from pretended_gpu.waits import RECORD

Action = Callable[[Lab], torch.Tensor]

STEPS = 10
"""Steps of a run, of which seven are the first epoch."""


def step_of(recommender: str, loss: str) -> Action:
    """Return a training step of a recommender with a loss: the loss and all gradients."""

    def act(lab: Lab) -> torch.Tensor:
        has_dropout = "dropout" in inspect.signature(RECOMMENDERS[recommender]).parameters
        options = {"dropout": 0.1} if has_dropout else {}
        config = replace(
            lab.settings(),
            recommender=RecommenderConfig(recommender, 16, options),
            loss=LossConfig(loss, sampled=5),
        )
        model = build_model(config, lab.data, 0).train()
        plan = Plan(lab.data.sequences, 0, 30, lab.data.owners(30, (1,)))
        dataset = StepDataset(lab.data, plan, 0, model.tower.specs, False, model.whole_catalogue)
        batch = dataset[0]
        if lab.device != CPU:
            batch = batch.pin_memory()
            batch.media = {spec: tensor.pin_memory() for spec, tensor in batch.media.items()}
        lab.to_device(model)
        RECORD.mark()
        step_loss = model(batch.to(lab.device))
        step_loss.backward()
        RECORD.mark()
        gradients = [parameter.grad for parameter in model.parameters()]
        return flattened([step_loss, *(g for g in gradients if g is not None)])

    return act


def encoding_of(name: str, tuning: str) -> Action:
    """Return the vectors and gradients of one encoder in an item tower, chunk by chunk."""

    def act(lab: Lab) -> torch.Tensor:
        # dropout of pretrained encoders draws from the device's generator
        return _encoded(lab, small_tower(name, tuning=tuning, chunk=3).eval())

    return act


def dropping_titles(checkpoint: str) -> Action:
    """Return the vectors and gradients of titles, whose language model drops values."""

    def act(lab: Lab) -> torch.Tensor:
        return _encoded(lab, small_tower("text/bert_tiny", chunk=3, checkpoint=checkpoint).train())

    return act


def _encoded(lab: Lab, tower: ItemTower) -> torch.Tensor:
    """Return the vectors of seven items, and the gradients of the tower."""
    # with other media, a value near 0 may be on either side of a ReLU by its rounding
    torch.manual_seed(1)
    media = media_of(tower.specs[0], 7)
    if lab.device != CPU:
        media = {spec: tensor.pin_memory() for spec, tensor in media.items()}
    lab.to_device(tower)
    RECORD.mark()
    vectors = tower.encode(media, 7, lab.device)
    vectors.square().sum().backward()  # type: ignore[no-untyped-call]
    RECORD.mark()
    gradients = [parameter.grad for parameter in tower.parameters()]
    return flattened([vectors, *(g for g in gradients if g is not None)])


def training_of(name: str, *overrides: str) -> Action:
    """Return the losses and final metrics of a run that trains, ranks, saves and resumes."""

    def act(lab: Lab) -> torch.Tensor:
        duration = f"train.duration={STEPS} steps"
        config = lab.fresh(lab.settings(duration, *overrides, name=name))
        losses: list[torch.Tensor] = []
        add = Meter.add

        def add_loss(meter: Meter, batch: Batch, step: Step, waited_s: float) -> None:
            add(meter, batch, step, waited_s)
            losses.append(step.loss)

        with patch.object(Meter, "add", add_loss), patch.object(loop, "stream_steps", _marked):
            loop.train(config)
            if config.train.duration != "0 steps":
                longer = replace(config.train, duration=f"{STEPS + 2} steps")
                loop.train(replace(config, train=longer))
        results = json.loads((config.run_path / "results.json").read_text())
        metrics = torch.tensor(list(results["metrics"]["all"].values()))
        return flattened([*losses, metrics])

    return act


def _marked(*arguments: Any) -> Iterator[Batch]:
    """Yield the batches of a run, and mark the beginning of each step."""
    for batch in _STREAM_STEPS(*arguments):
        RECORD.mark()
        yield batch
    RECORD.mark()


_STREAM_STEPS = loop.stream_steps


def extraction_of(name: str) -> Action:
    """Return the features that an encoder's extraction writes."""

    def act(lab: Lab) -> torch.Tensor:
        config = lab.settings(*encoders(name, tuning="frozen"))
        out = lab.folder / lab.device.type / f"features-{name.replace('/', '-')}"
        info = extract(config, str(out), lab.world)
        vectors = np.load(out / VECTORS_FILE)
        assert len(vectors) == info.count
        return torch.from_numpy(vectors).float()

    return act


def exported(lab: Lab) -> torch.Tensor:
    """Export the run over ids with its index."""
    run = lab.settings(name="ids").run_path
    _, recall = export(run, str(lab.folder / lab.device.type / "export"), lab.world)
    return torch.tensor([recall])


def recommended(lab: Lab) -> torch.Tensor:
    """Recommend items by the run over ids."""
    run = lab.settings(name="ids").run_path
    recommended = recommend(run, None, ["1", "2"], 5, lab.world)
    return torch.tensor([one.score for one in recommended])


def bench_of(kind: str, *overrides: str) -> Action:
    """Return a benchmark that runs to its end; it returns no number that must be the same."""

    def act(lab: Lab) -> torch.Tensor:
        config = lab.settings(*overrides)
        if kind == "step":
            measure_step(config, lab.data, lab.world, 1, None)
        elif kind == "prefix":
            measure_prefix(config, lab.data, lab.world, 1)
        else:
            measure_ranking(config, lab.data, lab.world, 1)
        return torch.ones(1)

    return act


def flattened(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return the values of tensors on either device as one tensor in host memory."""
    return torch.cat([host_values(tensor).float().flatten() for tensor in tensors])
