"""The keys of a configuration with their types, and the key that a misspelt one stands for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, get_type_hints, is_typeddict

from mlrec.config.kinds import inner_kind

KeyPath = Sequence[str]
"""A key by its parts. A part within options may hold dots and slashes."""

# difflib's ratio of two names in different sections; its default of 0.6 suggests unrelated keys
MIN_SIMILARITY_ANYWHERE = 0.75


def kinds_of(section: type[Any], prefix: str = "") -> dict[str, Any]:
    """Return the types of all keys and sections of a dataclass, each section before its keys."""
    kinds: dict[str, Any] = {}
    for name, kind in get_type_hints(section, include_extras=True).items():
        # messages list keys in this order
        kinds[prefix + name] = kind
        if is_dataclass(kind):
            kinds |= kinds_of(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
    return kinds


@dataclass(frozen=True)
class Keys:
    """The keys of a configuration or of a part of it, with their types."""

    root: type[Any]
    kinds: Mapping[str, Any]
    """Type of every key and section, by its name with dots ("optim.lr", "optim")."""

    @classmethod
    def of(cls, root: type[Any]) -> Keys:
        """Return the keys of a dataclass."""
        return cls(root, kinds_of(root))

    def kind_at(self, path: KeyPath) -> Any:
        """Return the type of a key, which options may hold; None if there is no such key."""
        kind: Any = self.root
        for name in path:
            kind = inner_kind(kind, name) if name else None
            if kind is None:
                return None
        return kind

    def has(self, key: str) -> bool:
        """Return whether there is a key or section of this name, with dots."""
        return self.kind_at(key.split(".")) is not None

    def unknown_key_error(self, path: KeyPath) -> ValueError:
        """Return the error for a key that does not exist, with the keys that may be meant."""
        key = ".".join(path)
        # options of encoders have types of their own, which are no part of `kinds`
        section = self.kind_at(path[:-1]) if len(path) > 1 else None
        if is_typeddict(section):
            return ValueError(f"{key}: unknown option; {_near_option(path[-1], section)}")
        # "optim.lr: 3" in a file, where a command line has optim.lr=3
        if "." in path[-1] and self.has(key):
            return ValueError(
                f"unknown key {key!r}; in a file keys are nested, write {_nested(key)}"
            )
        return ValueError(f"unknown key {key!r}{self._hint(key)}")

    def _hint(self, key: str) -> str:
        near = self.near(key)
        if near:
            return f"; did you mean {' or '.join(map(repr, near))}?"
        section = key.rpartition(".")[0]
        if self._names_in(section):
            return f"; {section or 'a configuration'} has {', '.join(self._names_in(section))}"
        return f"; a configuration has {', '.join(self._names_in(''))}"

    def near(self, key: str) -> list[str]:
        """Return the keys that a misspelt key may mean.

        These are the keys with the same last part, else the nearest of its section, else of all.
        """
        section, _, last = key.rpartition(".")
        # lr=0.1 without its section, or in the wrong one
        same_name = [other for other in self.kinds if _last_part(other) == last]
        if same_name:
            return same_name
        # optim.lrr
        in_section = difflib.get_close_matches(last, self._names_in(section), n=1)
        if in_section:
            return [f"{section}.{in_section[0]}".lstrip(".")]
        # trian.duration, or optim.temprature, which is a key of loss
        anywhere = difflib.get_close_matches(
            last, map(_last_part, self.kinds), n=1, cutoff=MIN_SIMILARITY_ANYWHERE
        )
        return [other for other in self.kinds if _last_part(other) in anywhere]

    def _names_in(self, section: str) -> list[str]:
        """Return the last parts of the keys of a section; "" is the whole configuration."""
        return [_last_part(key) for key in self.kinds if key.rpartition(".")[0] == section]

    def forms_to_set(self, word: str) -> list[str]:
        """Return KEY=VALUE for the keys that a word without "=" is or resembles."""
        if word not in self.kinds and self.has(word):
            return [f"{word}=VALUE"]
        # a slash is in paths, and in no key outside of options
        near = [] if "/" in word else self.near(word)
        forms = []
        for key in near:
            suffix = ".KEY=VALUE" if is_dataclass(self.kinds[key]) else "=VALUE"
            forms.append(key + suffix)
        return forms


def _last_part(key: str) -> str:
    return key.rpartition(".")[2]


def _near_option(name: str, section: Any) -> str:
    options = sorted(get_type_hints(section))
    near = difflib.get_close_matches(name, options, n=1)
    return f"did you mean {near[0]!r}?" if near else f"an encoder has {', '.join(options)}"


def _nested(key: str) -> str:
    """Return a dotted key as YAML has it, with "..." for the value."""
    first, *inner = key.split(".")
    value = "..."
    for name in reversed(inner):
        value = f"{{{name}: {value}}}"
    return f"{first}: {value}"
