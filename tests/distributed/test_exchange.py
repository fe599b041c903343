"""Exchange of item vectors over real ranks."""

from pathlib import Path

import pytest
import torch
from ranks import exchange_gradients, run_ranks


@pytest.mark.parametrize("world_size", [2, 3])
def test_exchange_ragged_shares_gives_all_vectors_and_sums_gradients(
    tmp_path: Path, world_size: int
) -> None:
    results = run_ranks(exchange_gradients, world_size, tmp_path, 0)
    expected = torch.tensor(results[0]["expected"])
    for result in results:
        torch.testing.assert_close(torch.tensor(result["seen"]), expected)
    gradients = [torch.tensor(result["gradient"]).view(-1, 4) for result in results]
    gradient = torch.cat(gradients)
    # Each rank weighs the same loss by its number from 1. An owner gets the sum over all ranks.
    factor = sum(range(1, world_size + 1))
    weights = torch.arange(1.0, 1.0 + gradient.numel()).view_as(gradient)
    torch.testing.assert_close(gradient, weights * factor)
