"""Match the names of a checkpoint's tensors to those of a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch

T = TypeVar("T")

_INNER_WRAPPER = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
"""Prefixes that torch.compile, FSDP, activation checkpointing and Lightning Fabric insert into a
name."""
_TRAINED = "encoder_q."
"""Prefix of MoCo's trained encoder."""
_MOMENTUM = "encoder_k."
"""Prefix of its moving average, which only training needs."""
_HEAD = re.compile(
    r"(\w*head\w*|\w*classifier\w*|fc\d?|fc_norm|decoder\w*|encoder_to_decoder|mask_token|cls|mlm\w*"
    r"|nsp\w*|sop\w*"
    r"|qa_outputs|\w*predict\w*|\w*projection|\w*proj|projector|logit_scale|logit_bias|pooler|vocab_\w+"
    r"|generator_\w+|queue\w*|loss\w*|criterion)"
)
"""Parts of models for one task, on which an encoder's vectors do not depend."""
_LISTED_NAMES = 5


class ShapePair(NamedTuple):
    """The two shapes of a tensor."""

    stored: tuple[int, ...]
    """In the checkpoint."""
    own: tuple[int, ...]
    """In the model."""

    @classmethod
    def of(cls, stored: torch.Tensor, own: torch.Tensor) -> ShapePair:
        """Return the shapes of a checkpoint's tensor and the model's."""
        return cls(tuple(stored.shape), tuple(own.shape))


@dataclass(frozen=True)
class Misfit:
    """The differences between a checkpoint's tensors and a model's."""

    missing: Collection[str]
    unexpected: Collection[str]
    shapes: Mapping[str, ShapePair]
    """Tensors whose shapes differ, by name."""
    total: int
    """Number of tensors that the model has."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def in_words(self) -> str:
        """Return counts and the first names of each kind of difference."""
        kinds = {
            f"of the model's {self.total} tensors are missing": self.missing,
            "are not the model's": self.unexpected,
            "have another shape": [
                f"{name} is {list(shape.stored)} instead of {list(shape.own)}"
                for name, shape in self.shapes.items()
            ],
        }
        return "; ".join(
            f"{len(names)} {words}: {_listed(names)}" for words, names in kinds.items() if names
        )


def _listed(names: Collection[str]) -> str:
    first = sorted(names)[:_LISTED_NAMES]
    return ", ".join(first) + (", ..." if len(names) > len(first) else "")


def plain_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """Return the tensors without the wrappers inside their names.

    Raises:
        ValueError: two tensors get the same name.
    """
    plain: dict[str, T] = {}
    for name, tensor in tensors.items():
        short = _INNER_WRAPPER.sub("", name)
        if short in plain:
            raise ValueError(f"it holds {short} twice, in wrappers and without")
        plain[short] = tensor
    return plain


def find_prefix(names: Iterable[str], expected: Collection[str]) -> str:
    """Return the prefix of the model's names in a checkpoint, such as "module.".

    It is the prefix that most of the expected names have; "" if no name occurs.

    Raises:
        ValueError: there are several sets of weights, such as a student's and a teacher's.
    """
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        # every suffix, because the prefix may contain dots itself
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in expected:
                counts["".join(f"{part}." for part in parts[:cut])] += 1
    if not counts:
        return ""
    # MoCo's momentum encoder is not a rival; any other tie is for the user to decide
    trained_prefixes = [prefix for prefix in counts if prefix.endswith(_TRAINED)]
    for prefix in trained_prefixes:
        counts.pop(prefix.removesuffix(_TRAINED) + _MOMENTUM, None)
    most = max(counts.values())
    best = sorted(prefix for prefix, count in counts.items() if count == most)
    if len(best) > 1:
        raise ValueError(
            f"it holds several sets of weights, under {' and '.join(map(repr, best))}; "
            "keep one of them"
        )
    return best[0]


def backbone_of(tensors: Mapping[str, T], expected: Collection[str]) -> dict[str, T]:
    """Return the backbone's tensors without wrappers, prefixes and heads of other tasks.

    Tensors without the prefix belong to other parts of a larger model and are left out. Tensors
    with it are returned even if the model lacks them, except heads, so that the caller rejects
    them.

    Args:
        expected: the names of all tensors of the architecture.

    Raises:
        ValueError: there are several sets of weights.
    """
    plain = plain_names(tensors)
    prefix = find_prefix(plain, expected)
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in plain.items()
        if name.startswith(prefix)
    }
    parts = {name.partition(".")[0] for name in expected}
    return {
        name: tensor for name, tensor in own.items() if name in expected or not is_head(name, parts)
    }


def is_head(name: str, parts: Collection[str]) -> bool:
    """Return whether a tensor belongs to a head and to none of the model's top-level parts."""
    # replaces masked patches, in pretraining only
    if name.endswith("mask_token"):
        return True
    first = name.partition(".")[0]
    return first not in parts and _HEAD.fullmatch(first) is not None
