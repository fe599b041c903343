"""The tables whose rows a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlrec.config import Config
from mlrec.config.zero_options import check_zero_options
from mlrec.data.schema import lookup
from mlrec.models.encoders import ENCODERS, encoder_row
from mlrec.models.fusion import FUSIONS
from mlrec.models.losses import LOSSES
from mlrec.models.recommenders import RECOMMENDERS, check_recommender
from mlrec.models.tunings import TUNINGS

TABLES: Mapping[str, Mapping[str, Any]] = {
    "encoders": ENCODERS,
    "recommenders": RECOMMENDERS,
    "losses": LOSSES,
    "fusions": FUSIONS,
    "tunings": TUNINGS,
}
"""Tables by the name under which `mlrec list` shows them."""


def check_rows(config: Config) -> None:
    """Check the names and options in a configuration without building a model.

    Raises:
        ValueError: an encoder, fusion, recommender or loss is unknown, an option of an encoder, of
            the recommender or of ZeRO does not fit, or the loss does not take its settings.
    """
    # before any rank reads data or weights, which takes minutes
    for name in config.item.encoders:
        encoder_row(name, config.item.options.get(name, {}))
    lookup(FUSIONS, config.item.fusion, "fusion")
    check_recommender(config.recommender)
    lookup(LOSSES, config.loss.name, "loss")(config.loss, config.seed)
    check_zero_options(config.zero)
