"""Every key has a type, a meaning and a message; a misspelt key names the meant one."""

import re
from dataclasses import asdict, dataclass
from typing import get_type_hints

import pytest

from mlrec.config import Config, keys, load
from mlrec.config.encoder_options import EncoderOptions
from mlrec.config.key_docs import described
from mlrec.config.keys import Keys, kinds_of

ENCODER_OPTIONS = [f"item.options.id/embedding.{name}" for name in get_type_hints(EncoderOptions)]
# options whose types only a library knows
UNTYPED_OPTIONS = [
    "recommender.options.layers",
    "zero.options.overlap_comm",
    "item.options.id/embedding.config.x",
    "zero.options.a.b",
]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("lr", ["optim.lr"]),
        ("train.lr", ["optim.lr"]),
        ("optim.lrr", ["optim.lr"]),
        ("trian.duration", ["train.duration"]),
        ("optim.temprature", ["loss.temperature"]),
        ("options", ["item.options", "recommender.options", "zero.options"]),
        ("zzz", []),
    ],
)
def test_near_misspelt_key_is_the_meant_one(key: str, near: list[str]) -> None:
    assert Keys.of(Config).near(key) == near


def test_unknown_key_near_to_none_lists_its_section() -> None:
    with pytest.raises(ValueError, match=r"optim has lr, encoder_lr, .*, warmup$") as error:
        load([], ["optim.learning_rate=3"])
    assert "data" not in str(error.value)
    with pytest.raises(
        ValueError, match=r"a configuration has name, run_dir, seed, data, .*, resume$"
    ):
        load([], ["zzz=3"])


@pytest.mark.parametrize("key", [*kinds_of(Config), *ENCODER_OPTIONS, *UNTYPED_OPTIONS])
def test_every_key_without_a_value_is_told_what_it_takes(key: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^{re.escape(key)} has no value; it must be \S"
    ) as error:
        load([], [f"{key}="])
    assert "\n" not in str(error.value)


def test_keys_describes_every_key_in_a_sentence() -> None:
    # the keys outside of sections
    leaves = {"name", "run_dir", "seed"}
    for section, values in asdict(Config()).items():
        if isinstance(values, dict):
            leaves |= {f"{section}.{key}" for key in values}
    assert keys().keys() == leaves
    for key, row in keys().items():
        assert row.description.endswith((".", '"')), key


def test_described_field_without_a_docstring_is_named() -> None:
    @dataclass
    class Section:
        """A section."""

        first: int = 0
        """The first."""
        second: int = 0

    with pytest.raises(
        ValueError, match=r"mine\.second has no docstring; write one under it in class Section"
    ):
        described(Section, "mine.")
