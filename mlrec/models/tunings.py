"""The ways to tune an encoder, from nothing trained to everything."""

from __future__ import annotations

from typing import NamedTuple

from mlrec.config.encoder_options import Tuning
from mlrec.models.encoders.base import Encoder


class TuningRow(NamedTuple):
    """One row of TUNINGS."""

    description: str
    """What is trained."""
    cost: str
    """Price of a step compared with frozen and full."""
    source: str
    """Paper or library that describes it."""


CACHED = "one forward of the encoder per item and run, then cached; later epochs"

TUNINGS: dict[str, TuningRow] = {
    "frozen": TuningRow(
        "trains nothing of the encoder, only the projection of its vectors",
        f"{CACHED} train the projection on cached vectors",
        "Ni et al., A Content-Driven Micro-Video Recommendation Dataset at Scale, 2023",
    ),
    "side": TuningRow(
        "trains a small network over the averaged hidden states of a frozen encoder's stages",
        f"{CACHED} train the side network on cached states",
        "Fu et al., IISAN: Efficiently Adapting Multimodal Representation for Sequential "
        "Recommendation with Decoupled PEFT, 2024",
    ),
    "lora": TuningRow(
        "trains low-rank updates of a frozen encoder's linear layers",
        "a forward and backward through the stages with adapters in every step; those before them "
        "are cached. Gradients and optimizer states of the adapters alone",
        "Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2022; library peft",
    ),
    "top": TuningRow(
        "trains the last stage",
        "the forward and backward of one stage; the stages before it are cached",
        "Ni et al., A Content-Driven Micro-Video Recommendation Dataset at Scale, 2023",
    ),
    "half": TuningRow(
        "trains the deeper half of the stages",
        "the forward and backward of half of the stages; those before them are cached",
        "Ni et al., A Content-Driven Micro-Video Recommendation Dataset at Scale, 2023",
    ),
    "full": TuningRow(
        "trains all parameters, starting from the checkpoint",
        "a forward and backward through all stages in every step",
        "Ni et al., A Content-Driven Micro-Video Recommendation Dataset at Scale, 2023",
    ),
    "scratch": TuningRow(
        "trains all parameters, starting from random weights",
        "that of full, and more steps",
        "Ni et al., A Content-Driven Micro-Video Recommendation Dataset at Scale, 2023",
    ),
}
"""Every tuning by the name that `item.tuning` uses, from cheap to expensive."""


def tune(encoder: Encoder, tuning: Tuning) -> None:
    """Mark the encoder's parameters that the tuning trains; add_adapters does so for `lora`."""
    if tuning in ("full", "scratch"):
        encoder.requires_grad_(True)
        return
    encoder.requires_grad_(False)
    stages = encoder.stages()
    trained_stages = {"frozen": 0, "side": 0, "top": 1, "half": (len(stages) + 1) // 2}[tuning]
    # a slice from -trained_stages would select all stages for 0
    for stage in stages[len(stages) - trained_stages :]:
        stage.requires_grad_(True)
