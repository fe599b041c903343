"""Check zero.options, further keys of DeepSpeed's zero_optimization section.

DeepSpeed's own model of the section has the names and types.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from mlrec.config import ZeroConfig
from mlrec.config.values import check_typed

# by key: what to do instead of setting it
_SET_BY_MLREC = {
    "stage": "set zero.stage",
    "offload_optimizer": "set zero.offload_optimizer",
    "cpu_offload": "set zero.offload_optimizer",
    "cpu_offload_use_pin_memory": "set zero.offload_optimizer",
    "compute_grad_norm": "mlrec reads the norm in each step",
    "elastic_checkpoint": "checkpoints are mlrec's own",
}
# DeepSpeed allocates some buckets whole, and counts their elements in int32 in places
MAX_BUCKET_ELEMENTS = (1 << 31) - 1


def check_zero_options(config: ZeroConfig) -> None:
    """Check the names and values of zero.options.

    Raises:
        ValueError: an option is none of DeepSpeed's, is set by mlrec itself, has a value that
            DeepSpeed refuses, or has no effect; the message names key, value and remedy.
    """
    if not config.options:
        return
    if config.stage == 0:
        raise ValueError(
            f"zero.options.{min(config.options)} has no effect with zero.stage=0. "
            "Remove it, or set zero.stage to 1, 2 or 3"
        )
    # importing DeepSpeed takes seconds, and few runs have options
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    kinds: dict[str, Any] = {}
    for name, field in DeepSpeedZeroConfig.model_fields.items():
        # keys of stage 3 are written with the prefix stage3_, which is the alias
        kinds[name] = field.annotation
        kinds[field.alias or name] = field.annotation
    for key, value in config.options.items():
        _check_name(key, DeepSpeedZeroConfig.model_fields, kinds)
        _check_value(value, kinds[key], f"zero.options.{key}")
    # DeepSpeed also checks values against each other
    # with options, auto is stage 2 on any number of ranks
    stage = 2 if config.stage == "auto" else config.stage
    _check_together({"stage": stage, **config.options}, DeepSpeedZeroConfig)


def _check_name(key: str, fields: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    remedy = _SET_BY_MLREC.get(key)
    if remedy:
        raise ValueError(f"zero.options.{key} cannot be set: {remedy}")
    if key in kinds:
        return
    near = difflib.get_close_matches(key, kinds, n=1)
    if near:
        hint = f"did you mean {near[0]!r}?"
    else:
        hint = f"DeepSpeed's zero_optimization has {', '.join(sorted(fields))}"
    raise ValueError(f"zero.options.{key}: unknown option; {hint}")


def _check_value(value: Any, kind: Any, key: str) -> None:
    """Check a value more strictly than pydantic, which takes "8" and true for numbers."""
    # int, or the int of int | None
    plain_kind = next(filter(_is_plain, (kind, *get_args(kind))), None)
    if plain_kind is not None:
        check_typed(value, plain_kind, key)
        if plain_kind is int and "bucket_size" in key and value > MAX_BUCKET_ELEMENTS:
            raise ValueError(f"{key} is {value}; it must be at most {MAX_BUCKET_ELEMENTS}")
    elif not isinstance(value, Mapping):
        raise ValueError(
            f"{key} is {value!r}; it must be options with their values, as DeepSpeed documents them"
        )


def _is_plain(kind: Any) -> bool:
    return kind in (int, bool, float)


def _check_together(options: dict[str, Any], model: Any) -> None:
    try:
        model(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"zero.options.{place}: DeepSpeed refuses {first['input']!r}: {first['msg']}"
        ) from error
