"""Peak memory of encoding grows with item.chunk, not with the number of items, and as planned."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, torch
from mlrec.bench.measure import peak, reset_peak
from mlrec.config import ItemConfig
from mlrec.models.tower import ItemTower

chunk, items = map(int, sys.argv[1:])
torch.set_num_threads(1)
shape = {"hidden_size": 96, "intermediate_size": 384}
shape |= {"num_hidden_layers": 4, "num_attention_heads": 4}
options = {"checkpoint": "", "frames": 8, "size": 112, "config": shape}
options = {"video/videomae": options}
item = ItemConfig(("video/videomae",), options, chunk=chunk, checkpoint="always")
tower = ItemTower(item, 64, 100)
media = {tower.specs[0]: torch.zeros(items, 8, 112, 112, 3, dtype=torch.uint8)}
# The peak of getrusage would include that of the parent process.
before = reset_peak(torch.device("cpu"))
tower.encode(media, most=items).sum().backward()
print(peak(torch.device("cpu")) - before)
"""


def growth(chunk: int, items: int) -> int:
    """Return the peak memory (bytes) that encoding `items` in chunks adds."""
    # glibc does not return all freed memory: resident memory grows up to 1.4 times for four
    # times the items. With this setting it returns every tensor at once. Real runs do not use
    # it, as it costs 60 % more CPU.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    command = [sys.executable, "-c", PROGRAM, str(chunk), str(items)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    return int(done.stdout)


def test_encode_peak_memory_grows_with_the_chunk_only() -> None:
    few, many, whole = (
        growth(chunk=8, items=16),
        growth(chunk=8, items=64),
        growth(chunk=64, items=64),
    )
    assert many < 1.1 * few, "four times the items, the same chunk"
    assert whole > 4 * many, "the same items, eight times the chunk"


STEP_PROGRAM = """
import sys
from dataclasses import replace

import torch

from mlrec.bench.made_up import data_of
from mlrec.bench.step import measure_step
from mlrec.config import load
from mlrec.data.plan import Plan
from mlrec.models.formulas import CPU_RATES
from mlrec.runtime.distributed import start_world
from mlrec.train.machine import this_machine
from mlrec.train.model_cost import build_shapes, forecaster_of
from mlrec.train.workload import counts_of, expected_workload

torch.set_num_threads(1)
settings = ["train.global_batch=12", "train.precision=fp32", "item.checkpoint=always"]
config = load([], [*sys.argv[1:], *settings, "item.tuning=scratch", "data.num_workers=0"])
counts = counts_of(config)
data = data_of(config.data)
items = len(Plan(data.sequences, config.seed, 12, data.owners(12, (1,))).step(1).items_U)
model = build_shapes(config, counts)
workload = expected_workload(config, counts, model.tower.specs, 1, False)
workload = replace(workload, items_per_step=items, most_items=items)
forecaster = forecaster_of(model, config, counts, workload, CPU_RATES)
forecast = forecaster.forecast(config, this_machine(config, 1))
bench = measure_step(config, data, start_world(), steps=1, baseline=None)
# Gradients are released after each step; weights and moments were there before it.
planned_bytes = forecast.memory.state.gradients + forecast.memory.step.most
print(bench.step_bytes, planned_bytes, bench.figures.cpu_s, forecast.time.first_epoch.device)
"""

SHAPES = {
    "video/videomae": {
        "frames": 8,
        "size": 112,
        "config": {
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
        },
    },
    "image/swin": {
        "size": 112,
        "config": {"embed_dim": 48, "depths": [2, 2, 2], "num_heads": [2, 4, 8]},
    },
    "text/bert_small": {
        "length": 64,
        "config": {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4},
    },
}


@pytest.mark.parametrize("chunk", [8, 32])
@pytest.mark.parametrize("encoder", SHAPES)
def test_plan_foresees_the_peak_memory_and_time_of_a_step(encoder: str, chunk: int) -> None:
    options = {encoder: {"checkpoint": "", **SHAPES[encoder]}}
    settings = [f"item.encoders=[{encoder}]", f"item.options={json.dumps(options)}"]
    # As above: with it, memory is that of live tensors.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    done = subprocess.run(
        [sys.executable, "-c", STEP_PROGRAM, *settings, f"item.chunk={chunk}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment,
    )
    measured_bytes, planned_bytes, measured_s, planned_s = map(float, done.stdout.split())
    assert planned_bytes == pytest.approx(measured_bytes, rel=0.15)
    # Within 20 % on an idle machine. Other work slows the step and the measured rates down, but not
    # equally.
    assert measured_s / 2 < planned_s < 2 * measured_s
