"""zero.options: further keys of DeepSpeed's zero_optimization section, checked against DeepSpeed's own model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from mlrec.config import ZeroConfig
from mlrec.config.values import check_typed

_SET_BY_MLREC = {
    "stage": "set zero.stage",
    "offload_optimizer": "set zero.offload_optimizer",
    "cpu_offload": "set zero.offload_optimizer",
    "cpu_offload_use_pin_memory": "set zero.offload_optimizer",
    "compute_grad_norm": "mlrec reads the norm in each step",
    "elastic_checkpoint": "checkpoints are mlrec's own",
}
MAX_BUCKET = (1 << 31) - 1
"""Elements of a buffer: DeepSpeed allocates some of them whole, and counts in int32 here and there."""


def check_zero_options(config: ZeroConfig) -> None:
    """
    Raises:
        ValueError: an option is none of DeepSpeed's, is set by mlrec itself, or has a value that DeepSpeed refuses; the
            message names key, value and remedy.
    """
    if not config.options:
        return
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig  # takes seconds

    kinds = {name: field.annotation for name, field in DeepSpeedZeroConfig.model_fields.items()}
    names = {
        field.alias or name: name for name, field in DeepSpeedZeroConfig.model_fields.items()
    } | {name: name for name in kinds}
    for key, value in config.options.items():
        where = f"zero.options.{key}"
        if remedy := _SET_BY_MLREC.get(key):
            raise ValueError(f"{where} cannot be set: {remedy}")
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"DeepSpeed's zero_optimization has {', '.join(sorted(kinds))}"
            )
            raise ValueError(f"{where}: unknown option; {hint}")
        _check_scalar(value, kinds[names[key]], where)
    _check_whole({"stage": config.stage, **config.options}, DeepSpeedZeroConfig)


def _check_scalar(value: Any, kind: Any, where: str) -> None:
    plain = next((one for one in (kind, *get_args(kind)) if one in (int, bool, float)), None)
    if plain is None:
        if not isinstance(value, Mapping):
            raise ValueError(
                f"{where} is {value!r}; it must be options with their values, as DeepSpeed documents them"
            )
        return
    check_typed(value, plain, where)
    if plain is int and "bucket_size" in where and value > MAX_BUCKET:
        raise ValueError(f"{where} is {value}; it must be at most {MAX_BUCKET}")


def _check_whole(options: dict[str, Any], model: Any) -> None:
    try:
        model(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"zero.options.{place}: DeepSpeed refuses {first['input']!r}: {first['msg']}"
        ) from error
