"""LoRA: trained low-rank updates of the linear layers of frozen Hugging Face encoders.

The library peft replaces each adapted layer by one that holds the frozen layer and two small
matrices. In a checkpoint a weight X.weight is then named X.base_layer.weight, and X.lora_A.* and
X.lora_B.* are the matrices. `merge_adapters` returns to the names and shapes of the encoder
without adapters.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2022.
Liu et al., DoRA: Weight-Decomposed Low-Rank Adaptation, 2024.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mlrec.config import Config, ItemConfig
from mlrec.config.encoder_options import LoraOptions
from mlrec.models.encoders import Encoder, encoder_row
from mlrec.models.encoders.huggingface import HuggingFace
from mlrec.models.trial import called_modules

DEFAULTS: LoraOptions = {"rank": 8, "alpha": 16, "stages": 0, "targets": (), "dora": False}
"""Values of the options that item.options.ENCODER.lora leaves out."""

# names that peft gives to the parts of an adapted layer
_BASE = ".base_layer"
_DOWN = ".lora_A.default.weight"
_UP = ".lora_B.default.weight"
_MAGNITUDE = ".lora_magnitude_vector.default.weight"


def add_adapters(encoder: Encoder, name: str, options: Mapping[str, Any] | None) -> None:
    """Freeze an encoder and give its linear layers adapters, which are trained.

    At first an adapter changes nothing, because one of its matrices is zero. The other one is drawn
    from torch's generator.

    Args:
        name: of the encoder, for messages.
        options: item.options.ENCODER.lora, if it is set.

    Raises:
        ValueError: it is no Hugging Face encoder, or has no such layers.
    """
    # imported here because the import takes a second, and few runs need it
    from peft import LoraConfig, inject_adapter_in_model

    if not isinstance(encoder, HuggingFace):
        raise ValueError(
            f"{name} cannot be tuned by lora, which adapts Hugging Face encoders only. Set "
            f"item.options.{name}.tuning to {_other_tunings(encoder)}"
        )
    chosen = _complete(options)
    layers = _layers_to_adapt(encoder, name, chosen)
    adapters = LoraConfig(
        r=chosen["rank"],
        lora_alpha=chosen["alpha"],
        target_modules=layers,
        use_dora=chosen["dora"],
    )
    inject_adapter_in_model(adapters, encoder.backbone)
    for parameter_name, parameter in encoder.named_parameters():
        parameter.requires_grad_(".lora_" in parameter_name)


def _complete(options: Mapping[str, Any] | None) -> LoraOptions:
    chosen: LoraOptions = {**DEFAULTS, **(options or {})}  # type: ignore[typeddict-item]
    return chosen


def _layers_to_adapt(encoder: HuggingFace, name: str, options: LoraOptions) -> list[str]:
    """Return the paths in the backbone of the linear layers that get adapters.

    Raises:
        ValueError: there is none, or a target is none of them.
    """
    stages = encoder.stages()
    if options["stages"] > len(stages):
        raise ValueError(
            f"item.options.{name}.lora.stages is {options['stages']}, and {name} has {len(stages)} "
            "stages. Lower it, or set 0 for all"
        )
    # a slice from -0 would be empty
    adapted_stages = stages[max(0, len(stages) - options["stages"]) if options["stages"] else 0 :]
    candidates: set[nn.Module] = set()
    for stage in adapted_stages:
        candidates.update(stage.modules())
    # Some models read the weights of a layer without calling it, as VideoMAE's attention does. An
    # adapter of such a layer would have no effect.
    called = called_modules(encoder)
    layers = []
    for path, module in encoder.backbone.named_modules():
        if isinstance(module, nn.Linear) and module in candidates & called:
            layers.append(path)
    if not options["targets"]:
        if not layers:
            raise ValueError(
                f"{name} cannot be tuned by lora: its stages call no linear layers. Set "
                f"item.options.{name}.tuning to {_other_tunings(encoder)}"
            )
        return layers
    # every name ends with "", which would adapt all layers, whatever the other targets are
    if "" in options["targets"]:
        raise ValueError(
            f"item.options.{name}.lora.targets has '', which is no end of a name. Remove it; "
            "without targets all linear layers of these stages have adapters"
        )
    targeted = [path for path in layers if path.endswith(tuple(options["targets"]))]
    for target in options["targets"]:
        if not any(path.endswith(target) for path in targeted):
            known = ", ".join(sorted({path.rpartition(".")[2] for path in layers})) or "none"
            raise ValueError(
                f"item.options.{name}.lora.targets has {target!r}, which ends the name of no "
                f"linear layer that the model calls in these stages. Their names end with {known}"
            )
    return targeted


def _other_tunings(encoder: Encoder) -> str:
    """Return the tunings that fit an encoder which has no adapters, in words."""
    return "frozen, side, top, half or full" if len(encoder.stages()) > 1 else "frozen or full"


def adapter_options(config: ItemConfig) -> dict[int, LoraOptions]:
    """Return the complete options of the encoders with adapters, by their place in the tower."""
    options = {}
    for place, name in enumerate(config.encoders):
        row = encoder_row(name, config.options.get(name, {}))
        if (row.tuning or config.tuning) == "lora":
            options[place] = _complete(row.lora)
    return options


def merge_adapters(
    tensors: Iterable[tuple[str, torch.Tensor]], options: Mapping[int, LoraOptions]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a model's tensors with the adapters merged into the weights that they adapt.

    Args:
        tensors: by the names of `Recommender.state_dict()`; all are held in memory.
        options: as `adapter_options` returns them.
    """
    if not options:
        yield from tensors
        return
    all_tensors = dict(tensors)
    for name, tensor in all_tensors.items():
        if _BASE in name:
            yield _merged(name, tensor, all_tensors, options)
        elif ".lora_" not in name:
            yield name, tensor


def _merged(
    name: str,
    weight: torch.Tensor,
    tensors: Mapping[str, torch.Tensor],
    options: Mapping[int, LoraOptions],
) -> tuple[str, torch.Tensor]:
    """Return the name and value of an adapted layer's weight or bias without its adapter."""
    layer, kind = name.split(_BASE)
    plain_name = layer + kind
    if layer + _DOWN not in tensors or kind != ".weight":
        return plain_name, weight
    # names begin with tower.encoders.PLACE
    place = int(name.split(".")[2])
    scale = options[place]["alpha"] / options[place]["rank"]
    down = tensors[layer + _DOWN].float()
    up = tensors[layer + _UP].float()
    updated = weight.float() + scale * (up @ down)
    magnitude = tensors.get(layer + _MAGNITUDE)
    if magnitude is not None:
        updated = updated * (magnitude.float() / updated.norm(dim=1))[:, None]
    return plain_name, updated.to(weight.dtype)


def without_adapters(config: Config) -> Config:
    """Return the configuration of the model whose adapters were merged: its encoders are frozen."""
    options: dict[str, Any] = dict(config.item.options)
    for place in adapter_options(config.item):
        name = config.item.encoders[place]
        own = {key: value for key, value in options.get(name, {}).items() if key != "lora"}
        options[name] = {**own, "tuning": "frozen"}
    return replace(config, item=replace(config.item, options=options))


def names_with_adapters(
    tensors: Iterable[tuple[str, torch.Tensor]], model_names: Collection[str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield tensors of a model without adapters, by their names in a model with adapters.

    Magnitudes of DoRA are computed from the weights, so that an adapter changes nothing at first.
    """
    adapted = {name.replace(_BASE, ""): name for name in model_names if _BASE in name}
    for name, tensor in tensors:
        adapted_name = adapted.get(name, name)
        yield adapted_name, tensor
        layer, _, kind = adapted_name.partition(_BASE)
        if kind == ".weight" and layer + _MAGNITUDE in model_names:
            yield layer + _MAGNITUDE, tensor.float().norm(dim=1).to(tensor.dtype)
