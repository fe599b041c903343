"""Planted faults: what a change to mlrec must not bring back, and how a check reports it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.utils.checkpoint import checkpoint

from mlrec.data.schema import Batch
from mlrec.models.dropout import Dropout
from mlrec.models.recommender import Recommender
from pretended_gpu.actions import step_of
from pretended_gpu.checks import CHECKS, Check

STEP = Check(step_of("sasrec", "in_batch_softmax"))

PREPARE = Recommender.prepare
TO = Batch.to


class Fault(NamedTuple):
    """A fault, and the check that must find it."""

    plant: Callable[[], AbstractContextManager[Any]]
    check: Check
    error: str = ""
    """Part of the check's error; "" if only waits show the fault."""
    wait: str = ""
    """Part of a wait that the fault adds to a step; "" for none."""


def _left_on_host(batch: Batch, device: torch.device) -> Batch:
    moved = TO(batch, device)
    moved.log_p_U = batch.log_p_U
    return moved


def _with_read(model: Any, ids_U: Any, items_UD: torch.Tensor, valid_U: torch.Tensor) -> Any:
    float(items_UD.sum().detach())
    return PREPARE(model, ids_U, items_UD, valid_U)


def _with_mask(model: Any, ids_U: Any, items_UD: torch.Tensor, valid_U: torch.Tensor) -> Any:
    assert len(items_UD[valid_U]) <= len(items_UD)
    return PREPARE(model, ids_U, items_UD, valid_U)


def _with_nonzero(model: Any, ids_U: Any, items_UD: torch.Tensor, valid_U: torch.Tensor) -> Any:
    readable = torch.nonzero(valid_U).flatten()
    assert len(readable) <= len(items_UD)
    return PREPARE(model, ids_U, items_UD, valid_U)


def _with_host_index(model: Any, ids_U: Any, items_UD: torch.Tensor, valid_U: torch.Tensor) -> Any:
    places = torch.arange(len(items_UD))
    return PREPARE(model, ids_U, items_UD[places], valid_U)


def _drawn_mask(layer: Dropout, columns: Any) -> torch.Tensor:
    keys = layer.keys
    return (torch.rand(*keys.shape, *columns, device=keys.device) >= layer.p).int()


def _checkpointed_without_state(encode: Any, encoders: Any, device: torch.device) -> torch.Tensor:
    del encoders, device
    # without an argument on the device, its generator is not set back
    encoded: torch.Tensor = checkpoint(lambda nothing: encode(), None, use_reentrant=False)
    return encoded


def _prepare(replacement: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: patch.object(Recommender, "prepare", replacement)


FAULTS: dict[str, Fault] = {
    "tensor left in host memory": Fault(
        lambda: patch.object(Batch, "to", _left_on_host), STEP, error="MixedDevicesError"
    ),
    "number read in a step": Fault(_prepare(_with_read), STEP, wait="host read"),
    "batch that is not pinned": Fault(
        lambda: patch.object(Batch, "pin_memory", lambda batch: batch), STEP, wait="blocking copy"
    ),
    "boolean mask as an index": Fault(_prepare(_with_mask), STEP, wait="(index)"),
    "nonzero on the device": Fault(_prepare(_with_nonzero), STEP, wait="(nonzero)"),
    "index made in host memory": Fault(
        _prepare(_with_host_index), STEP, wait="(places in host memory)"
    ),
    "dropout from a generator": Fault(
        lambda: patch.object(Dropout, "mask", _drawn_mask), STEP, error="results differ"
    ),
    "recomputation with other dropout": Fault(
        lambda: patch("mlrec.models.tower.run_checkpointed", _checkpointed_without_state),
        CHECKS["recompute titles"],
        error="results differ",
    ),
}
"""All faults by name."""
