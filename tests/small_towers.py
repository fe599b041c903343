"""Item towers of small encoders."""

from __future__ import annotations

from typing import Any

import torch
from small_encoders import SMALL

from mlrec.config import ItemConfig
from mlrec.models.tower import ItemTower

CPU = torch.device("cpu")
WIDTH = 16
CATALOGUE_SIZE = 50


def tower_of(*names: str, **changes: Any) -> ItemTower:
    """Return a tower of these encoders in training mode, with the same weights in every call."""
    torch.manual_seed(0)
    options = changes.pop("options", {name: SMALL[name] for name in names if SMALL[name]})
    return ItemTower(ItemConfig(encoders=names, options=options, **changes), WIDTH, CATALOGUE_SIZE)
