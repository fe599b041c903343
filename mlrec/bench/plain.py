"""Plain baseline of `mlrec bench step`: ids with SASRec as a PyTorch training loop without mlrec.

The arithmetic of a step is mlrec's: the same batch, initial weights, parameter groups, clipping and
learning rates. Without dropout the losses are equal up to rounding. Dropout draws from torch's
generator. There is no DeepSpeed, no exchange, no chunking and no activation checkpointing.

The loop takes the batch that mlrec's step has waited for, so its own wait is 0. All of forward and
backward counts as `recommend`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from mlrec.bench.step_clock import PartClock, StepClock, StepTimes
from mlrec.config import Config, LossConfig
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.stream import Data
from mlrec.models.encoders.id import IdEmbedding
from mlrec.models.recommender import Recommender
from mlrec.models.recommenders.sasrec import SASRec
from mlrec.runtime.distributed import World
from mlrec.train import optim


class Block(nn.Module):
    """A transformer block with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.pre_norm = pre_norm
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        first, second = self.norms
        if self.pre_norm:
            x = x + functional.dropout(self._attend(first(x), allowed), self.dropout)
            return x + functional.dropout(self.feed_forward(second(x)), self.dropout)
        x = first(x + functional.dropout(self._attend(x, allowed), self.dropout))
        normed: torch.Tensor = second(x + functional.dropout(self.feed_forward(x), self.dropout))
        return normed

    def _attend(self, x: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        # [B, L, 3 D] to three of [B, H, L, D / H]
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=allowed, dropout_p=self.dropout
        )
        attended: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(-2))
        return attended


class PlainSASRec(nn.Module):
    """A table of item vectors, SASRec over padded histories, and the in-batch softmax."""

    def __init__(self, like: Recommender, loss: LossConfig) -> None:
        """Build it in the form of mlrec's model, with copies of its weights."""
        super().__init__()
        sasrec = like.sequence_model
        encoder = like.tower.encoders[0]
        assert isinstance(sasrec, SASRec) and isinstance(encoder, IdEmbedding)
        self.loss = loss
        self.cosine = sasrec.cosine
        self.dropout = sasrec.dropout.p
        length, width = sasrec.positions.weight.shape
        self.table = nn.Embedding(like.tower.catalogue_size + 1, width)
        self.positions = nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        pre_norm = isinstance(sasrec.last_norm, nn.LayerNorm)
        self.blocks = nn.ModuleList()
        for block in sasrec.blocks:
            assert isinstance(block.heads, int)
            self.blocks.append(Block(width, block.heads, self.dropout, pre_norm))
        self.last_norm = nn.LayerNorm(width) if pre_norm else nn.Identity()

        weights = sasrec.state_dict()
        weights["table.weight"] = encoder.embedding.weight
        for index in range(len(self.blocks)):
            names = [f"blocks.{index}.{part}.weight" for part in ("query", "key", "value")]
            weights[f"blocks.{index}.qkv.weight"] = torch.cat([weights.pop(name) for name in names])
        self.load_state_dict(weights)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the mean loss over the targets of the batch."""
        items_UD = self.table(batch.items_U)
        states_BLD = self._states(items_UD, batch.inputs_BL)
        users_P, places_P = torch.nonzero(batch.targets_BL >= 0, as_tuple=True)
        states_PD = states_BLD[users_P, places_P]
        target_P = batch.targets_BL[users_P, places_P]
        target_P1 = target_P[:, None]
        if self.cosine:
            items_UD = functional.normalize(items_UD, dim=-1)
            states_PD = functional.normalize(states_PD, dim=-1)

        logits_PU = states_PD / self.loss.temperature @ items_UD.T
        if self.loss.logq:
            logits_PU -= batch.log_p_U
        if self.loss.multiplicity:
            # The target counts once.
            log_count_U = batch.count_U.log()
            logits_PU += log_count_U
            logits_PU.scatter_add_(1, target_P1, -log_count_U[target_P1])
        # The user's other items are no negatives. Padding goes to a column that is cut off.
        slots_BT = torch.cat([batch.inputs_BL, batch.targets_BL], dim=1)
        num_items = len(items_UD)
        own_BU = torch.zeros(len(slots_BT), num_items + 1, dtype=torch.bool, device=slots_BT.device)
        own_BU.scatter_(1, slots_BT.where(slots_BT >= 0, num_items), True)
        masked_PU = own_BU[users_P, :num_items].scatter_(1, target_P1, False)
        return functional.cross_entropy(logits_PU.masked_fill_(masked_PU, float("-inf")), target_P)

    def _states(self, items_UD: torch.Tensor, slots_BL: torch.Tensor) -> torch.Tensor:
        real_BL = slots_BL >= 0
        history_BLD = functional.embedding(slots_BL.clamp(min=0), items_UD) * real_BL[..., None]
        length = slots_BL.shape[1]
        # Histories are right-aligned, so the newest item has the last position.
        x = self.norm(history_BLD + self.positions.weight[-length:])
        x = functional.dropout(x, self.dropout)
        causal = torch.ones(length, length, dtype=torch.bool, device=slots_BL.device).tril()
        itself = torch.eye(length, dtype=torch.bool, device=slots_BL.device)
        allowed = (causal & real_BL[:, None] | itself)[:, None]
        for block in self.blocks:
            x = block(x, allowed)
        states: torch.Tensor = self.last_norm(x)
        return states


class PlainBaseline:
    """Steps of the plain loop, with weights and an optimizer of its own."""

    name: ClassVar[str] = "plain"
    most_items = 0
    """It uses no activation checkpointing, so mlrec's step chooses for itself."""

    def __init__(
        self, config: Config, data: Data, plan: Plan, model: Recommender, world: World
    ) -> None:
        """Copy the model's weights.

        Raises:
            ValueError: the configuration sets something that this loop does not support.
        """
        _check_supported(config, world)
        self._config = config
        self._clock = PartClock(world.device)
        self._steps_per_epoch = plan.steps_per_epoch
        self.model = PlainSASRec(model, config.loss).to(world.device)
        groups = optim.parameter_groups(self.model, [self.model.table], config.optim)
        self._optimizer = torch.optim.AdamW(
            groups, betas=config.optim.betas, eps=config.optim.eps, fused=True
        )

    def step(self, clock: StepClock, times: StepTimes, batch: Batch) -> None:
        """Take a step of the plain loop on the batch of mlrec's step."""
        total_steps = clock.engine.total_steps
        with self._clock.work(times):
            factor = optim.schedule(
                self._config.optim, batch.step, self._steps_per_epoch, total_steps
            )
            optim.set_learning_rates(self._optimizer, factor)
            loss = self.model(batch)
            loss.backward()
            self._clock.lap("recommend")
            if self._config.optim.clip_norm:
                nn.utils.clip_grad_norm_(self.model.parameters(), self._config.optim.clip_norm)
            self._optimizer.step()
            self._optimizer.zero_grad()
            self._clock.lap("optimizer")
        times.count(batch, len(batch.items_U), loss)


def _check_supported(config: Config, world: World) -> None:
    """Check that the loop supports all that the configuration sets.

    Raises:
        ValueError: it does not; names key, value and remedy.
    """
    supported = {
        "item.encoders": (list(config.item.encoders), ["id/embedding"]),
        "item.options": (config.item.options, {}),
        "item.fusion": (config.item.fusion, "sum"),
        "item.tuning": (config.item.tuning, "full"),
        "recommender.name": (config.recommender.name, "sasrec"),
        "loss.name": (config.loss.name, "in_batch_softmax"),
        "optim.layer_decay": (config.optim.layer_decay, 1.0),
        "train.precision": (config.train.precision, "fp32"),
        "train.ema": (config.train.ema, 0.0),
        "the number of ranks": (world.size, 1),
    }
    for key, (value, needed) in supported.items():
        if value != needed:
            raise ValueError(
                f"--baseline plain measures id/embedding with sasrec on one rank, and {key} is "
                f"{value!r}. Set it to {needed!r}, or leave the option out"
            )
