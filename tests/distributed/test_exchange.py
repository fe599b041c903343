from pathlib import Path

import pytest
import torch
from ranks import exchange_gradients, run_ranks


@pytest.mark.parametrize("world_size", [2, 3])
def test_every_rank_sees_all_vectors_and_owners_get_the_summed_gradient(
    tmp_path: Path, world_size: int
) -> None:
    results = run_ranks(exchange_gradients, world_size, tmp_path, 0)
    expected = torch.tensor(results[0]["expected"])
    for result in results:
        torch.testing.assert_close(torch.tensor(result["seen"]), expected)
    found = torch.cat([torch.tensor(result["gradient"]).view(-1, 4) for result in results])
    factor = sum(range(1, world_size + 1))
    torch.testing.assert_close(
        found, torch.arange(1.0, 1.0 + found.numel()).view_as(found) * factor
    )
