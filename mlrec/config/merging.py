"""Merge the sources of a configuration, in which options belong to the row they were set for.

`recommender.options` are those of the recommender `recommender.name`, and `item.options` holds
options for each encoder in `item.encoders`. A source that chooses another row must not inherit
options of the row before: SASRec's `heads` would be an error for GRU4Rec.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_RECOMMENDER = ("recommender", "name")
_ENCODERS = ("item", "encoders")


@dataclass(frozen=True)
class Setting:
    """A key and the value it is set to."""

    path: tuple[str, ...]
    """Parts of the key. A part within options may hold dots and slashes."""
    value: Any

    @property
    def key(self) -> str:
        """Name of the key in messages."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Source:
    """The settings of one file, or of the whole command line."""

    where: str
    """Name of the source in messages."""
    settings: tuple[Setting, ...]
    """Settings in the order in which they were written; the last one of a key counts."""

    def value_of(self, path: tuple[str, ...], default: Any) -> Any:
        """Return the value that this source gives a key, or `default` if it gives none."""
        values = [setting.value for setting in self.settings if setting.path == path]
        return values[-1] if values else default


def merge_sources(defaults: Mapping[str, Any], sources: Iterable[Source]) -> dict[str, Any]:
    """Return the tree of defaults with the values of the sources, later ones over earlier ones."""
    # copies, because options are mutable and callers use defaults and sources again
    tree = copy.deepcopy(dict(defaults))
    for source in sources:
        # Options of replaced rows go first, so that the source can set options of the new rows.
        # Its settings have no order among themselves: options may stand before the row's name.
        _drop_recommender_options(tree, source)
        _drop_encoder_options(tree, source)
        for setting in source.settings:
            _set(tree, setting)
    return tree


def _drop_recommender_options(tree: dict[str, Any], source: Source) -> None:
    """Drop the options of the recommender if the source chooses another one."""
    before = tree["recommender"]["name"]
    if source.value_of(_RECOMMENDER, before) != before:
        tree["recommender"]["options"] = {}


def _drop_encoder_options(tree: dict[str, Any], source: Source) -> None:
    """Drop the options of the encoders that the source takes from the list.

    Options of encoders that were never in the list stay: a file for one machine may set options of
    encoders that a later file chooses.
    """
    before = tree["item"]["encoders"]
    after = source.value_of(_ENCODERS, before)
    for name in before:
        if name not in after:
            tree["item"]["options"].pop(name, None)


def _set(tree: dict[str, Any], setting: Setting) -> None:
    *sections, name = setting.path
    node = tree
    for section in sections:
        # options may replace a value by a mapping: {a: 1}, and later {a: {b: 1}}
        if not isinstance(node.get(section), dict):
            node[section] = {}
        node = node[section]
    if setting.value == {} and isinstance(node.get(name), dict):
        return  # options are added to those before, so an empty mapping changes nothing
    node[name] = copy.deepcopy(setting.value)
