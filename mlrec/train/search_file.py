"""The section `search` of a sweep's file: a metric, a number of trials, and the keys to vary."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from mlrec.config import as_value, kind_of
from mlrec.config.bounds import Between
from mlrec.config.kinds import is_optional, is_word_or_number, without_none
from mlrec.config.scalars import Node, Scalar, as_whole_number, shown
from mlrec.config.values import typed
from mlrec.train.search_space import Choices, Range

Trials = Annotated[int, Between(1, 10_000)]

FIXED = ("name", "run_dir", "seed", "data", "evaluate", "resume", "tracking")
"""Keys and sections that all trials share, as they decide what is measured or where."""


@dataclass(frozen=True)
class Search:
    """A search of settings by their metric on the validation split."""

    trials: int
    keys: dict[str, Range | Choices]
    """Values to try, by key of a configuration."""
    metric: str = ""
    """Metric to maximize, such as ndcg@10 or cold/hr@10; empty for evaluate.select_by."""


def read_search(node: Node, where: str) -> Search:
    """Return a search as it is written in a sweep's file.

    Args:
        where: file and key, for messages.

    Raises:
        ValueError: a key is unknown or missing, or a value does not fit.
    """
    content = _mapping(node, where, ("metric", "trials", "keys"))
    for name in ("trials", "keys"):
        if name not in content:
            raise ValueError(
                f"{where} has no {name}; write search: {{trials: 20, keys: {{optim.lr: "
                "{low: 1e-4, high: 1e-2, log: true}}}"
            )
    keys = {}
    for key, values in _mapping(content["keys"], f"{where}.keys").items():
        keys[key] = _values(key, values, f"{where}.keys.{key}")
    if not keys:
        raise ValueError(f"{where}.keys is empty; name one or more keys with the values to try")
    metric = content.get("metric", Scalar("", quoted=True))
    return Search(
        trials=typed(content["trials"], Trials, f"{where}.trials"),
        keys=keys,
        metric=typed(metric, str, f"{where}.metric"),
    )


def _mapping(node: Node, where: str, allowed: tuple[str, ...] = ()) -> dict[str, Node]:
    """Return a node that must be a mapping, with the `allowed` keys alone if there are any."""
    if not isinstance(node, dict):
        raise ValueError(f"{where} is {shown(node)}; it must be a mapping")
    for name in node:
        if allowed and name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(allowed)}"
            raise ValueError(f"{where}: unknown key {name!r}; {hint}")
    return node


def _values(key: str, node: Node, where: str) -> Range | Choices:
    if key in FIXED or key.partition(".")[0] in FIXED:
        raise ValueError(
            f"{where} cannot be searched: {', '.join(FIXED)} are the same in all trials. Remove it"
        )
    if isinstance(node, dict):
        return _range(key, _mapping(node, where, ("low", "high", "log")), where)
    texts = tuple(as_value(value, key) for value in node) if isinstance(node, list) else ()
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise ValueError(
            f"{where} is {shown(node)}; it must be {{low: NUMBER, high: NUMBER}}, with log: true "
            "if wanted, or a list of two or more distinct values"
        )
    return Choices(texts)


def _range(key: str, node: dict[str, Node], where: str) -> Range:
    if "low" not in node or "high" not in node:
        raise ValueError(f"{where} must have low and high; it has {', '.join(node) or 'neither'}")
    low = typed(node["low"], float, f"{where}.low")
    high = typed(node["high"], float, f"{where}.high")
    log = typed(node.get("log", Scalar("false")), bool, f"{where}.log")
    whole = _is_whole(key, node["low"], node["high"])
    are_whole = low.is_integer() and high.is_integer()
    if low >= high or (log and low <= 0) or (whole and not are_whole):
        kind = "whole numbers" if whole else "numbers"
        above = ", low above 0 for log: true" if log else ""
        raise ValueError(
            f"{where} is {shown(node)}; low and high must be {kind}, low below high{above}"
        )
    return Range(low, high, log, whole)


def _is_whole(key: str, low: Node, high: Node) -> bool:
    """Return whether a key takes whole numbers.

    Options without a type take them if both ends are written as whole numbers.
    """
    kind: Any = kind_of(key)
    while get_origin(kind) is Annotated or is_optional(kind) or is_word_or_number(kind):
        if is_word_or_number(kind):
            kind = get_args(kind)[1]
        else:
            kind = without_none(kind) if is_optional(kind) else get_args(kind)[0]
    if kind in (int, float):
        return kind is int
    ends = [end for end in (low, high) if isinstance(end, Scalar)]
    return all(as_whole_number(end) is not None for end in ends)
