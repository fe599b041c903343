"""The whole model and one step of it: encode owned items, exchange, score, loss."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mlrec.data.schema import Batch, Scored
from mlrec.models.agreement import Agreement, agree
from mlrec.models.chunks import NO_ITEMS, Counts
from mlrec.models.dropout import RowKind, drawing, dropouts_of, row_keys
from mlrec.models.product_losses import LossOfPart, sum_of_losses
from mlrec.models.recommenders import (
    Slots,
    UserModel,
    Vectors,
    readable_slots,
)
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import exchange, shares, to_device

MAX_SCORES = 1 << 26
"""Scores of a rank that are held at a time (256 MB). Above that a loss that needs them all is
computed in parts, with activation checkpointing."""


def _unchanged(vectors: torch.Tensor) -> torch.Tensor:
    return vectors


@dataclass(frozen=True)
class ForwardHooks:
    """Points of a forward pass that a benchmark observes or replaces. Training sets none."""

    encode: Callable[[Batch], torch.Tensor] | None = None
    """Function that returns the vectors of a batch's items; None for `Recommender.encode_owned`."""
    after_encode: Callable[[torch.Tensor], torch.Tensor] = _unchanged
    """Function that gets the vectors [O, D] of this rank's items and returns them."""
    after_exchange: Callable[[torch.Tensor], torch.Tensor] = _unchanged
    """Function that gets the vectors [U, D] of all items and returns them."""


NO_HOOKS = ForwardHooks()


class Loss(Protocol):
    """The training objective."""

    whole_catalogue: bool
    """Whether it compares with all items, not only with the global batch's."""

    def __call__(self, scored: Scored) -> torch.Tensor:
        """Return the losses [P] of the positions."""


@dataclass(frozen=True)
class Targets:
    """The positions of this rank's users with a readable target, and how their loss counts.

    Its tensors are on the device.
    """

    valid_U: torch.Tensor
    """Items that could be read, of all ranks, bool."""
    slots: Slots
    """The users' histories, where the wanted positions are those with a readable target."""
    users_P: torch.Tensor
    """Row of each position in the batch's users, int64."""
    target_P: torch.Tensor
    """Index of the target in the batch's items, int64."""
    key_P: torch.Tensor
    """As in Positions."""
    total: int
    """Number of readable targets in the global batch, at least 1."""
    part_sizes: tuple[int, ...]
    """Numbers of this rank's positions that are scored at a time."""


class Positions(NamedTuple):
    """Some of this rank's positions with a target: one row of each tensor per position."""

    users_P: torch.Tensor
    """Row in the batch's users, int64."""
    states_PX: torch.Tensor
    """The sequence model's state."""
    target_P: torch.Tensor
    """Index of the target in the batch's items, int64."""
    key_P: torch.Tensor
    """Number of the position, int64: a function of user and place that is unique in the step."""


class Recommender(nn.Module):
    """The whole model. A rank encodes its own items, the ranks exchange the vectors, and each rank
    scores its users' positions against all items."""

    def __init__(
        self,
        tower: ItemTower,
        sequence_model: UserModel,
        loss: Loss,
        temperature: float,
        rank: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.sequence_model = sequence_model
        self.loss = loss
        self.temperature = temperature
        self.rank = rank
        self.seed = seed
        self._dropouts = dropouts_of(sequence_model)
        self._scores_products = type(sequence_model).score is UserModel.score
        self._loss_knows_products = _knows_products(type(loss))
        self.whole_catalogue = sequence_model.whole_catalogue or loss.whole_catalogue
        """Whether a step's items are those of the whole catalogue."""

    def forward(self, batch: Batch, hooks: ForwardHooks = NO_HOOKS) -> torch.Tensor:
        """Return this rank's loss of one step; collective.

        It is scaled so that its mean over the ranks is the mean over all targets of the global
        batch.
        """
        # The only exchange of the ranks that the host waits for. After the encoding it would wait
        # for all of it, and the device would be idle before the loss and the backward pass.
        agreed = self._agree(batch)
        targets = self._find_targets(batch, agreed.valid_U)
        self.tower.fetch_rows(batch.on_host.items_U)
        encode = hooks.encode or partial(self.encode_owned, most=agreed.most)
        own_OD = hooks.after_encode(encode(batch))
        # All ranks: every rank gets the vectors of all U items, in owner order.
        items_UD = hooks.after_exchange(exchange(own_OD, batch.owned_W, self.rank))
        with self._drawing(lambda: self._item_keys(batch)):
            vectors = self.prepare(batch.items_U, items_UD, targets.valid_U)
        positions = self._positions(batch, vectors, targets)
        loss_sum = self._loss_sum(batch, vectors.items_UX, positions, targets)
        # DeepSpeed averages gradients over ranks, and the sum over ranks is what counts here
        return loss_sum * (len(batch.owned_W) / targets.total)

    def _agree(self, batch: Batch) -> Agreement:
        """Exchange which items could be read, and how many are cached; collective."""
        counts = NO_ITEMS
        if batch.cached_O is not None:
            counts = self.tower.counts_to_cache(batch.items_O, batch.valid_O)
        return agree(batch.valid_O, counts, batch.owned_W, batch.items_U.device)

    def _find_targets(self, batch: Batch, valid_U: torch.Tensor) -> Targets:
        """Return the positions to train on.

        The host computes them, because it needs their number to launch the device's work.

        Args:
            valid_U: items that could be read, of all ranks, bool, in host memory.
        """
        host = batch.on_host
        has_target_BL = (host.targets_BL >= 0) & valid_U[host.targets_BL]
        users_P, places_P = torch.nonzero(has_target_BL, as_tuple=True)
        length = host.targets_BL.shape[1]
        # A global batch whose items are all unreadable has no target: its loss is 0, not 0 / 0.
        total = max(1, int((host.targets_U * valid_U).sum()))
        # The number of parts follows from global numbers, so it is the same on every rank: under
        # ZeRO-3 all ranks must call a scoring network equally often.
        num_scores = total * len(valid_U)
        num_parts = max(1, -(-num_scores // (len(batch.owned_W) * MAX_SCORES)))
        items_BL = readable_slots(host.inputs_BL, valid_U)
        device = batch.items_U.device
        slots = self.sequence_model.slots(items_BL, users_P * length + places_P, device)
        return Targets(
            valid_U=to_device(valid_U, device),
            slots=slots.to(device),
            users_P=to_device(users_P, device),
            target_P=to_device(host.targets_BL[users_P, places_P], device),
            key_P=to_device(host.users_B[users_P] * length + places_P, device),
            total=total,
            part_sizes=shares(len(users_P), num_parts),
        )

    def encode_owned(self, batch: Batch, most: Counts | None = None) -> torch.Tensor:
        """Return the vectors [O, D] of this rank's items; collective with an activation cache.

        Args:
            most: as in ItemTower.encode_cached.
        """
        device = batch.items_U.device
        keys_O = row_keys(RowKind.TOWER_ITEMS, batch.items_O, self.seed, batch.step)
        if batch.cached_O is None:
            return self.tower.encode(batch.media, max(batch.owned_W), device, keys_O)
        return self.tower.encode_cached(
            batch.items_O,
            batch.media,
            batch.valid_O,
            batch.cached_O,
            add=True,
            device=device,
            keys_O=keys_O,
            most=most,
        )

    def prepare(
        self, ids_U: torch.Tensor, items_UD: torch.Tensor, valid_U: torch.Tensor
    ) -> Vectors:
        """Return the sequence model's vectors of the items; unreadable items are zeros to it."""
        return self.sequence_model.prepare(ids_U, items_UD.masked_fill(~valid_U[:, None], 0.0))

    def _positions(self, batch: Batch, vectors: Vectors, targets: Targets) -> Positions:
        """Return the states of the positions that have a target."""
        rows_R = targets.slots.rows_R
        with self._drawing(lambda: self._position_keys(batch, rows_R)):
            states_PX = self.sequence_model.states(vectors, batch.users_B, targets.slots)
        return Positions(targets.users_P, states_PX, targets.target_P, targets.key_P)

    def _loss_sum(
        self, batch: Batch, items_UX: torch.Tensor, positions: Positions, targets: Targets
    ) -> torch.Tensor:
        """Return the sum of all positions' losses, computed in parts where the scores are many."""
        loss_of_part = self._loss_of_products(batch, positions, targets)
        if loss_of_part is not None:
            return sum_of_losses(positions.states_PX, items_UX, loss_of_part)
        loss_of = partial(self._loss_of, batch, items_UX, targets.valid_U)
        sizes = list(targets.part_sizes)
        columns = [torch.split(column, sizes) for column in positions]
        total = positions.target_P.new_zeros((), dtype=torch.float32)
        for part in zip(*columns, strict=True):
            # backward, a part's scores are computed again, so memory holds one part's at a time
            if len(sizes) > 1:
                total = total + checkpoint(loss_of, *part, use_reentrant=False)
            else:
                total = total + loss_of(*part)
        return total

    def _loss_of_products(
        self, batch: Batch, positions: Positions, targets: Targets
    ) -> LossOfPart | None:
        """Return the loss as a function of products; None if it must get all scores."""
        if not (self._scores_products and self._loss_knows_products):
            return None
        scored = Scored(
            _no_scores,
            positions.target_P,
            batch.slots()[positions.users_P],
            positions.key_P,
            batch,
            targets.valid_U,
        )
        loss_of_part: LossOfPart | None = self.loss.of_products(  # type: ignore[attr-defined]
            scored, self.temperature
        )
        return loss_of_part

    def _loss_of(
        self,
        batch: Batch,
        items_UX: torch.Tensor,
        valid_U: torch.Tensor,
        users_P: torch.Tensor,
        states_PX: torch.Tensor,
        target_P: torch.Tensor,
        key_P: torch.Tensor,
    ) -> torch.Tensor:
        """Return the sum of some positions' losses. The last arguments are as in Positions."""

        def score(at_PK: torch.Tensor | None) -> torch.Tensor:
            items = items_UX
            if at_PK is not None:
                # the width is stated, because a rank without positions has nothing to infer it from
                items = items_UX.index_select(0, at_PK.flatten())
                items = items.view(*at_PK.shape, items_UX.shape[-1])

            def pair_keys() -> torch.Tensor:
                keys_U = self._item_keys(batch)
                keys_P = row_keys(RowKind.POSITIONS, key_P, self.seed, batch.step)
                # a key per pair, for recommenders that score by a network with dropout
                return keys_P[:, None] ^ (keys_U if at_PK is None else keys_U[at_PK])

            with self._drawing(pair_keys):
                return self.sequence_model.score(states_PX, items).float() / self.temperature

        own_PT = batch.slots()[users_P]
        losses_P = self.loss(Scored(score, target_P, own_PT, key_P, batch, valid_U))
        if losses_P.shape != target_P.shape:
            raise ValueError(
                f"{type(self.loss).__name__} returned losses of shape {list(losses_P.shape)} for "
                f"{len(target_P)} positions. Return one per position, without their mean or sum"
            )
        return losses_P.sum()

    def _drawing(self, make_keys: Callable[[], torch.Tensor]) -> AbstractContextManager[None]:
        return drawing(self._dropouts, make_keys)

    def _item_keys(self, batch: Batch) -> torch.Tensor:
        """Return the keys [U] by which dropout draws for items in the recommender."""
        return row_keys(RowKind.ITEMS, batch.items_U, self.seed, batch.step)

    def _position_keys(self, batch: Batch, rows_R: torch.Tensor) -> torch.Tensor:
        """Return the keys [R] by which dropout draws for these positions of this rank's users."""
        length = batch.inputs_BL.shape[1]
        ids_R = batch.users_B[rows_R // length] * length + rows_R % length
        return row_keys(RowKind.POSITIONS, ids_R, self.seed, batch.step)


def _knows_products(loss: type) -> bool:
    """Return whether a loss has `of_products` for its own `__call__`, not for another class's."""
    definers = {}
    for name in ("__call__", "of_products"):
        definers[name] = next((row for row in loss.__mro__ if name in vars(row)), None)
    of_products, call = definers["of_products"], definers["__call__"]
    return of_products is not None and call is not None and issubclass(of_products, call)


def _no_scores(at: torch.Tensor | None) -> torch.Tensor:
    raise AssertionError("a loss of products does not ask for scores")
