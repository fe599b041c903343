"""Batch normalisation over real ranks, compared with torch's own over the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ranks import run_ranks
from torch import nn

from mlrec.models.batchnorm import BatchNorm
from mlrec.runtime.distributed import start_world, stop_world

SIZES = (5, 3)
"""Items of each rank."""


def plain_batchnorm() -> tuple[nn.BatchNorm3d, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    norm = nn.BatchNorm3d(4)
    nn.init.normal_(norm.weight)
    values = torch.randn(sum(SIZES), 4, 2, 3, 3) * 3 + 5
    return norm, values, torch.randn_like(values)


def normalise(rank_sizes: tuple[int, ...]) -> dict[str, Any]:
    """Return the outputs, gradients and statistics of a rank that has its part of the values."""
    world = start_world()
    torch_norm, values, weights = plain_batchnorm()
    norm = BatchNorm(torch_norm)
    start = sum(rank_sizes[: world.rank])
    own = slice(start, start + rank_sizes[world.rank])
    part = values[own].clone().requires_grad_()
    normal = norm(part)
    (normal * weights[own]).sum().backward()
    norm.repeats = True
    recomputed = norm(part)
    stop_world()
    return {
        "normal": normal.tolist(),
        "recomputed": recomputed.tolist(),
        "gradient": part.grad.tolist(),
        "weight": norm.weight.grad.tolist(),
        "mean": norm.running_mean.tolist(),
        "variance": norm.running_var.tolist(),
        "batches": int(norm.num_batches_tracked),
    }


def test_batchnorm_over_ranks_has_the_statistics_of_all_values(tmp_path: Path) -> None:
    results = run_ranks(normalise, len(SIZES), tmp_path, SIZES)
    norm, values, weights = plain_batchnorm()
    values.requires_grad_()
    expected = norm(values)
    (expected * weights).sum().backward()

    def joined(key: str) -> torch.Tensor:
        return torch.cat([torch.tensor(result[key]) for result in results])

    close = {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(joined("normal"), expected.detach(), **close)
    torch.testing.assert_close(joined("recomputed"), expected.detach(), **close)
    torch.testing.assert_close(joined("gradient"), values.grad, **close)
    torch.testing.assert_close(
        sum(torch.tensor(result["weight"]) for result in results), norm.weight.grad, **close
    )
    for result in results:
        torch.testing.assert_close(torch.tensor(result["mean"]), norm.running_mean, **close)
        torch.testing.assert_close(torch.tensor(result["variance"]), norm.running_var, **close)
        assert result["batches"] == 1, "the recomputation does not count"
