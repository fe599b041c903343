"""AdamW over the rows of a step against torch's AdamW over the whole table."""

import math

import pytest
import torch

from mlrec.models.encoders.sharded_table import ShardedTable
from mlrec.runtime.distributed import World
from mlrec.train import missed_updates, row_adamw
from mlrec.train.optim import average_decay
from mlrec.train.row_adamw import WEIGHT, RowAdamW
from mlrec.train.zero_state import AVERAGE

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU, (1,))
ROWS = 200
NEVER = slice(190, 200)
"""Rows without a gradient."""
ONCE = slice(180, 190)
"""Rows with a gradient in one step."""
WIDTH = 8
STEPS = 300
PEAK_LR = 1e-3
EMA = 0.99


class Pair:
    """The same table under both optimizers."""

    def __init__(
        self, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999), averaged: bool = False
    ) -> None:
        weight = 0.02 * torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
        self.dense = torch.nn.Parameter(weight.clone())
        self.optimizer = torch.optim.AdamW(
            [self.dense], PEAK_LR, betas=betas, weight_decay=weight_decay
        )
        self.average = weight.clone()
        self.averaged = averaged
        group = {"name": "encoder/decay", "lr": PEAK_LR, "weight_decay": weight_decay}
        self.table = ShardedTable(weight, ALONE, torch.float32, CPU)
        self.rows = RowAdamW(self.table, group, betas, 1e-8, averaged)
        self.largest_difference = 0.0
        """Largest difference of the weights of a step's rows when the step reads them."""

    def step(self, items: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        self.table.fetch(items)
        assert self.table.fetched is not None
        own = self.table.fetched.own
        difference = float((own - self.dense[items]).detach().abs().max())
        self.largest_difference = max(self.largest_difference, difference)
        own.grad = gradient.clone()
        self.dense.grad = torch.zeros_like(self.dense).index_copy(0, items, gradient)
        self.optimizer.param_groups[0]["lr"] = lr
        self.rows.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.rows.step(1.0)
        if self.averaged:
            decay = average_decay(EMA, self.rows.updates)
            self.average.lerp_(self.dense.detach(), 1 - decay)
            self.rows.update_averages(decay)
        self.table.release()

    def train(self, scale: float = 1e-3, orders_of_magnitude: float = 0.0) -> None:
        """Take STEPS steps with a cosine schedule, in which some rows are frequent, others rare."""
        generator = torch.Generator().manual_seed(1)
        popularity = 1 / torch.arange(1.0, 1 + ROWS)
        popularity[ONCE] = popularity[NEVER] = 0.0
        once = list(range(ROWS))[ONCE]
        for step in range(STEPS):
            drawn = torch.multinomial(popularity, 8, generator=generator).tolist()
            if step % (STEPS // len(once)) == 0:
                drawn.append(once[step * len(once) // STEPS])
            items = torch.tensor(sorted(drawn))
            gradient = scale * torch.randn(len(items), WIDTH, generator=generator)
            exponents = orders_of_magnitude * torch.rand(len(items), WIDTH, generator=generator)
            lr = 0.5 * PEAK_LR * (1 + math.cos(math.pi * step / STEPS))
            self.step(items, gradient * 10**-exponents, lr)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1, 4.0])
def test_row_adamw_equals_adamw_over_the_whole_table(weight_decay: float) -> None:
    pair = Pair(weight_decay)
    pair.train()
    assert pair.largest_difference < 1e-6
    state = pair.optimizer.state[pair.dense]
    torch.testing.assert_close(pair.rows.gather(WEIGHT), pair.dense.detach(), atol=1e-6, rtol=0)
    for moment in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(pair.rows.gather(moment), state[moment], atol=0, rtol=1e-4)
    assert not pair.rows.gather("exp_avg")[NEVER].any()


def test_row_adamw_of_gradients_near_eps_stays_near_adamw() -> None:
    # From 1e-3 to 1e-15: a square root of the second moment above, near and below eps.
    pair = Pair(0.1)
    pair.train(orders_of_magnitude=12.0)
    assert pair.largest_difference < 1e-5
    torch.testing.assert_close(pair.rows.gather(WEIGHT), pair.dense.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("betas", [(0.0, 0.1), (0.0, 0.9), (0.8, 0.9), (0.9, 0.95), (0.9, 0.98)])
def test_row_adamw_with_other_betas_equals_adamw(betas: tuple[float, float]) -> None:
    pair = Pair(0.1, betas)
    pair.train()
    torch.testing.assert_close(pair.rows.gather(WEIGHT), pair.dense.detach(), atol=1e-5, rtol=0)


def test_row_adamw_keeps_the_moving_averages_of_all_rows() -> None:
    pair = Pair(0.1, averaged=True)
    pair.train()
    torch.testing.assert_close(pair.rows.gather(AVERAGE), pair.average, atol=1e-6, rtol=0)


def test_row_adamw_lets_all_rows_catch_up_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed_updates, "MAX_MISSED", 37)
    monkeypatch.setattr(row_adamw, "BLOCK_ROWS", 64)
    pair = Pair(0.1, averaged=True)
    pair.train()
    torch.testing.assert_close(pair.rows.gather(WEIGHT), pair.dense.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(pair.rows.gather(AVERAGE), pair.average, atol=1e-6, rtol=0)


def test_row_adamw_that_is_read_twice_changes_nothing() -> None:
    pair = Pair(0.1)
    pair.train()
    first = pair.rows.gather(WEIGHT).clone()
    pair.rows.catch_up(torch.arange(ROWS))
    assert torch.equal(pair.rows.gather(WEIGHT), first)
