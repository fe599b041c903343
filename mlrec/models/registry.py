"""The tables whose rows a configuration or a command names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlrec.config import Config
from mlrec.config.zero_options import check_zero_options
from mlrec.data.schema import Modality, lookup
from mlrec.models.encoder_building import check_tuning_has_effect
from mlrec.models.encoders import ENCODERS, encoder_row
from mlrec.models.fusion import FUSIONS
from mlrec.models.losses import LOSSES
from mlrec.models.recommenders import RECOMMENDERS, check_recommender
from mlrec.models.tunings import TUNINGS
from mlrec.runtime.devices import DEVICES

TABLES: Mapping[str, Mapping[str, Any]] = {
    "encoders": ENCODERS,
    "recommenders": RECOMMENDERS,
    "losses": LOSSES,
    "fusions": FUSIONS,
    "tunings": TUNINGS,
    "gpus": DEVICES,
}
"""Tables by the name under which `mlrec list` shows them."""

_WITHOUT_STAGES = (Modality.ID, Modality.FEATURES)


def check_rows(config: Config) -> None:
    """Check the names and options in a configuration without building a model.

    Raises:
        ValueError: an encoder, fusion, recommender or loss is unknown, an option of an encoder, of
            the recommender or of ZeRO does not fit, the loss does not take its settings, or the
            tuning or the layer decay has no effect on the encoders.
    """
    # before any rank reads data or weights, which takes minutes
    for name in config.item.encoders:
        encoder_row(name, config.item.options.get(name, {}))
    check_tuning_has_effect(config.item)
    _check_layer_decay(config)
    lookup(FUSIONS, config.item.fusion, "fusion")
    check_recommender(config.recommender)
    lookup(LOSSES, config.loss.name, "loss")(config.loss, config.seed)
    check_zero_options(config.zero)


def _check_layer_decay(config: Config) -> None:
    """Check that an encoder has the stages that the layer decay is about.

    Raises:
        ValueError: all encoders are ids and features.
    """
    if config.optim.layer_decay == 1:
        return
    names = config.item.encoders
    if any(encoder_row(name, {}).modality not in _WITHOUT_STAGES for name in names):
        return
    raise ValueError(
        f"optim.layer_decay is {config.optim.layer_decay} and has no effect on {', '.join(names)}: "
        "ids and features have no stages. Remove it"
    )
