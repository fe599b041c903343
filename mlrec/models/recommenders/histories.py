"""Users' histories as recommenders read them: padded, or without padding.

Shape letters: as in base.py, and for a span: b its users, l its length, r its computed positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from mlrec.runtime.distributed import to_device

ALL_ROWS = slice(None)
"""Value of `rows` for all computed positions."""
SHORTEST_SPAN = {"cpu": 4, "cuda": 64, "meta": 64}
"""Length of the shortest span, by device; each other one is twice as long as the one before, up to
L. On a GPU the kernels of one more span take longer than attention over 64 positions."""


class Span(NamedTuple):
    """Users whose histories have similar lengths, padded to one length l <= L: [b, l]."""

    rows: slice
    """Their computed positions among R."""
    cells_r: torch.Tensor
    """Place of each of these positions in the flattened [b, l], int64."""
    mask_bl: torch.Tensor
    """True for real items."""

    @property
    def length(self) -> int:
        """l: the number of positions of each user."""
        return self.mask_bl.shape[1]

    def padded(self, values_rX: torch.Tensor) -> torch.Tensor:
        """Return values of the computed positions as [b, l, ...], with zeros at all others."""
        flat = spread(values_rX, self.cells_r, self.mask_bl.numel())
        return flat.view(*self.mask_bl.shape, *values_rX.shape[1:])

    def at_rows(self, values_blX: torch.Tensor) -> torch.Tensor:
        """Return the values [r, ...] at the computed positions."""
        return values_blX.flatten(0, 1).index_select(0, self.cells_r)


class Slots(NamedTuple):
    """Histories of users, and the positions whose states are wanted.

    Positions are numbered user by user: position l of user b is b * L + l.
    """

    items_BL: torch.Tensor
    """Indices into U, int64, oldest first, right-aligned; -1 for padding and unreadable items."""
    rows_R: torch.Tensor
    """Positions to compute, int64: the wanted ones, and for a model that `computes_histories` also
    all others with an item."""
    wanted_P: torch.Tensor
    """Indices into R of the wanted positions, int64."""
    spans: tuple[Span, ...] = ()
    """The computed positions span by span, for a model that `computes_histories`."""

    def to(self, device: torch.device) -> Slots:
        """Copy them to `device`; the host does not wait."""
        spans = []
        for span in self.spans:
            cells_r = to_device(span.cells_r, device)
            spans.append(Span(span.rows, cells_r, to_device(span.mask_bl, device)))
        items_BL, rows_R, wanted_P = (to_device(part, device) for part in self[:3])
        return Slots(items_BL, rows_R, wanted_P, tuple(spans))

    def wanted_rows(self) -> torch.Tensor:
        """Return the wanted positions, int64 [P]."""
        return self.rows_R[self.wanted_P]


def cut_into_spans(
    items_BL: torch.Tensor, wanted_P: torch.Tensor, shortest: int = SHORTEST_SPAN["cpu"]
) -> Slots:
    """Return slots for a model that `computes_histories`; the host waits for their device.

    Attention within a span costs a fraction of attention over L positions, if many histories are
    short.

    Args:
        shortest: length of the shortest span.
    """
    device = items_BL.device
    num_users, length = items_BL.shape
    is_row_BL = items_BL >= 0
    is_row_BL.view(-1)[wanted_P] = True
    bounds = []
    bound = shortest
    while bound < length:
        bounds.append(bound)
        bound *= 2
    bounds.append(length)

    # each user's history reaches back to its first computed position; without any, to the newest
    reach_B = length - is_row_BL.int().argmax(dim=1)
    reach_B = torch.where(is_row_BL.any(dim=1), reach_B, 1)
    span_B = torch.searchsorted(torch.tensor(bounds, device=device), reach_B)
    users_B = span_B.argsort(stable=True)
    users_R, places_R = torch.nonzero(is_row_BL, as_tuple=True)
    order_R = span_B[users_R].argsort(stable=True)
    users_R, places_R = users_R[order_R], places_R[order_R]
    counts = torch.stack(
        [torch.bincount(spans, minlength=len(bounds)) for spans in (span_B, span_B[users_R])]
    )
    users_per_span, rows_per_span = counts.tolist()

    # number of each user in the order of `users_B`
    number_B = torch.empty_like(users_B)
    number_B[users_B] = torch.arange(num_users, device=device)
    spans: list[Span] = []
    first_user = first_row = 0
    for bound, num_span_users, num_rows in zip(bounds, users_per_span, rows_per_span, strict=True):
        rows = slice(first_row, first_row + num_rows)
        users_b = users_B[first_user : first_user + num_span_users]
        # a rank without any position still has one span
        if num_rows or (bound == length and not spans):
            first_place = length - bound
            cells_r = (number_B[users_R[rows]] - first_user) * bound + places_R[rows] - first_place
            spans.append(Span(rows, cells_r, items_BL[users_b, first_place:] >= 0))
        first_user += num_span_users
        first_row += num_rows

    rows_R = users_R * length + places_R
    row_of = torch.empty(num_users * length, dtype=torch.int64, device=device)
    row_of[rows_R] = torch.arange(len(rows_R), device=device)
    return Slots(items_BL, rows_R, row_of[wanted_P], tuple(spans))


class History:
    """Item vectors of users' histories, padded to one length or at the computed positions only."""

    def __init__(self, items_UD: torch.Tensor, slots: Slots) -> None:
        self.slots = slots
        self.wanted_P = slots.wanted_P
        """Indices into R of the positions whose states are wanted, int64."""
        self.length = slots.items_BL.shape[1]
        """L: the number of positions."""
        self.mask_BL = slots.items_BL >= 0
        """True for real items."""
        self.places_R = slots.rows_R % self.length
        """Places of the computed positions in their history, int64, 0 to L - 1."""
        self._items_UD = items_UD

    def padded_items(self) -> torch.Tensor:
        """Return the item vectors [B, L, D], oldest first; zeros where the mask is False."""
        return self._select(self.slots.items_BL)

    def items_at_rows(self) -> torch.Tensor:
        """Return the item vectors [R, D] of the computed positions; zeros without an item."""
        return self._select(self.slots.items_BL.flatten()[self.slots.rows_R])

    def at_rows(self, values_BLX: torch.Tensor) -> torch.Tensor:
        """Return the values [R, ...] at the computed positions."""
        return values_BLX.flatten(0, 1).index_select(0, self.slots.rows_R)

    def padded(self, values_RX: torch.Tensor) -> torch.Tensor:
        """Return values of the computed positions as [B, L, ...], with zeros at all others."""
        flat = spread(values_RX, self.slots.rows_R, self.mask_BL.numel())
        return flat.view(*self.mask_BL.shape, *values_RX.shape[1:])

    def rows_of_layers(self, layers: int, training: bool) -> list[torch.Tensor | slice]:
        """Return the computed positions that each layer of a model returns, as indices into R.

        Every layer but the top one returns all, because the next one attends to them. In training
        the top one does too: its dropout draws for all of them.
        """
        return [ALL_ROWS] * (layers - 1) + [ALL_ROWS if training else self.wanted_P]

    def _select(self, items: torch.Tensor) -> torch.Tensor:
        # The backward of index_select sums an item's gradients over its occurrences, on a CPU in a
        # fixed order.
        picked = self._items_UD.index_select(0, items.clamp(min=0).flatten())
        # where there is no item, row 0 was read
        return picked.view(*items.shape, picked.shape[-1]) * (items >= 0)[..., None]


def causal_mask(span: Span, itself: bool) -> torch.Tensor:
    """Return which positions each position reads, bool [b, l, l]: real items up to it.

    Args:
        itself: whether a position without an item reads itself.
    """
    shape = (span.length, span.length)
    allowed_bll = torch.ones(shape, dtype=torch.bool, device=span.mask_bl.device).tril()
    allowed_bll = allowed_bll & span.mask_bl[:, None]
    if itself:
        allowed_bll |= torch.eye(span.length, dtype=torch.bool, device=span.mask_bl.device)
    return allowed_bll


def spread(values: torch.Tensor, rows: torch.Tensor | slice, count: int) -> torch.Tensor:
    """Return the values of `rows` as [count, ...], with zeros in all other rows."""
    if isinstance(rows, slice):
        return values
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, rows, values)
