"""What a configuration's numbers must at least be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


_RATES = ("optim.lr", "optim.encoder_lr", "optim.weight_decay", "optim.encoder_weight_decay", "optim.eps", "optim.clip_norm")
_COUNTS = ("seed", "data.cache_bytes", "data.num_workers", "data.max_bad_items", "item.prefix_cache_bytes")
_USERS = ("train.global_batch", "evaluate.user_chunk")

BOUNDS: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    ("a number of 0 or more", lambda value: _is_number(value) and value >= 0, (*_RATES, *_COUNTS, "data.balance_slack")),
    ("1 or more", lambda value: value >= 1, (*_USERS, "train.keep_last", "item.chunk", "recommender.width", "loss.sampled")),
    ("a number above 0", lambda value: _is_number(value) and value > 0, ("loss.temperature",)),
    ("two numbers from 0 to below 1", lambda pair: all(0 <= value < 1 for value in pair), ("optim.betas",)),
)
"""What a value must be, in words and as a test, and the keys of which that is asked."""


def check_bounds(config: Any) -> None:
    """Looks at the numbers of a whole configuration, and at those that an encoder has of its own in their place.

    Raises:
        ValueError: one is out of its bounds; the message names key, value and bound.
    """
    for words, fits, keys in BOUNDS:
        for key in keys:
            for place, value in _values(config, key):
                if not fits(value):
                    raise ValueError(f"{place} is {value!r}; it must be {words}")


def _values(config: Any, key: str) -> Iterator[tuple[str, Any]]:
    yield key, attrgetter(key)(config)
    own = key.removeprefix("optim.encoder_")
    for name, options in config.item.options.items():
        if own != key and options.get(own) is not None:
            yield f"item.options.{name}.{own}", options[own]
