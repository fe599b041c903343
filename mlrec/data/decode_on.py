"""The place where JPEGs are decoded: data.decode_on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from mlrec.config import DataConfig
from mlrec.data.decode import with_jpegs
from mlrec.data.media.device_jpeg import check_device_decoder
from mlrec.data.schema import InputSpec
from mlrec.data.stream import Data
from mlrec.runtime.distributed import World

log = logging.getLogger(__name__)


def check_decode_on(config: DataConfig, device: torch.device) -> None:
    """Check that this device decodes JPEGs if the configuration says so.

    Raises:
        ValueError: it does not.
    """
    if config.decode_on == "device":
        check_device_decoder(device)


def delivered_inputs(inputs: Sequence[InputSpec], data: Data) -> tuple[InputSpec, ...]:
    """Return the inputs of encoders as the loader delivers them.

    Raises:
        ValueError: videos are to be decoded on the device, and the data set holds clips.
    """
    if data.config.decode_on == "host":
        return tuple(inputs)
    return with_jpegs(inputs, data.info.media, data.catalogue, data.url)


def delivered_for_ranking(
    inputs: Sequence[InputSpec], data: Data, world: World
) -> tuple[InputSpec, ...]:
    """Return the inputs as delivered to a model that was trained, maybe on another machine.

    What its machine decoded on the device is decoded on the host where this one cannot.
    """
    try:
        check_decode_on(data.config, world.device)
        return delivered_inputs(inputs, data)
    except ValueError as error:
        if world.is_main:
            log.warning("JPEGs are decoded on the host: %s", error)
        return tuple(inputs)
