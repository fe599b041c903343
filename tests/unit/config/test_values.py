"""Text stays text, numbers are strict, and every number has bounds."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest

from mlrec.config import Config, load, load_saved, save
from mlrec.config.bounds import Between
from mlrec.config.encoder_options import EncoderOptions
from mlrec.config.keys import kinds_of

# YAML 1.1 or a shell would take each of these for something else than a text
TEXTS = [
    *("0123", "1_000", "1.10", "12:30", "yes", "null", "~", "1e3", '"q"', "it's", "[x]", "{x}"),
    *("true", "a=b", "0x10", "2026-11-28", "-1", "!x", "&x", "*x", "%x", "@x", "|", ">", "日本"),
    *("exp #1", "a: b", "- a", "a,b c"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_on_the_command_line_is_unchanged_after_saving(text: str, tmp_path: Path) -> None:
    option = "item.options.id/embedding.checkpoint"
    config = load(
        [], [f"name={text}", f"data.url={text}", f"data.cache_dir={text}", f"{option}={text}"]
    )
    assert (config.name, config.data.url, config.data.cache_dir) == (text, text, text)
    assert config.item.options == {"id/embedding": {"checkpoint": text}}
    # texts within options that go to a library, next to values of other types
    nested: Any = {
        "id/embedding": {
            "checkpoint": text,
            "config": {"word": text, "list": [text, 1, 0.5, None, True]},
        }
    }
    config = replace(config, item=replace(config.item, options=nested))
    save(config, tmp_path / "config.yaml")
    assert repr(load_saved(tmp_path / "config.yaml")) == repr(config)


@pytest.mark.parametrize(
    "text",
    ["0123", "1_000", "1.10", "12:30", "yes", "null", "~", "1e3", "2026-11-28", "0x10", ".5", "on"],
)
def test_text_in_a_file_is_unchanged(text: str, tmp_path: Path) -> None:
    lines = [
        f"name: {text}",
        f"tracking: {{entity: {text}}}",
        f"item: {{encoders: [{text}], options: {{{text}: {{features: {text}}}}}}}",
    ]
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    config = load([tmp_path / "run.yaml"])
    assert (config.name, config.tracking.entity, config.item.encoders) == (text, text, (text,))
    assert config.item.options == {text: {"features": text}}


@pytest.mark.parametrize(
    # other parsers read numbers here, and not all of them the same one
    "text",
    ["010", "0x10", "0o7", "1_000", "1:30", "١", "+5", " 5", "5 ", "1.", "1.0", "1e3", "-0", "'3'"],
)
def test_whole_number_not_in_plain_digits_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"^seed is .*; it must be a whole number from 0 to 4294967295, written in plain d",
    ):
        load([], [f"seed={text}"])
    (tmp_path / "run.yaml").write_text(f"seed: {text}\n")
    if text == text.strip():  # YAML itself drops spaces
        with pytest.raises(ValueError, match=r"run\.yaml: seed is .*; it must be a whole number"):
            load([tmp_path / "run.yaml"])


@pytest.mark.parametrize(
    "text",
    [
        "00.1",
        "5.",
        "1_0.5",
        "0x1p3",
        "1e400",
        "1e-400",
        "NaN",
        "inf",
        ".inf",
        "-.INF",
        "+0.1",
        "1:30.5",
        "٠.٥",
    ],
)
def test_number_not_in_json_or_not_finite_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^optim\.lr is .*; it must be a number from 0 to 1e\+38"
    ) as error:
        load([], [f"optim.lr={text}"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), (".5", 0.5), ("0.10", 0.1), ("8", 8.0), ("1E-3", 1e-3), ("0", 0.0)],
)
def test_number_as_in_python_or_json_is_read(text: str, value: float) -> None:
    assert load([], [f"optim.lr={text}"]).optim.lr == value


@pytest.mark.parametrize("text", ["yes", "True", "on", "1", "TRUE", "y"])
def test_truth_value_other_than_true_and_false_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^loss\.logq is .*; it must be true or false$"):
        load([], [f"loss.logq={text}"])


def unbounded_numbers(kind: Any) -> list[Any]:
    """Return the types of numbers within a kind that have no bounds."""
    if get_origin(kind) is Annotated:
        has_bounds = any(isinstance(annotation, Between) for annotation in get_args(kind))
        return [] if has_bounds else [kind]
    if kind in (int, float):
        return [kind]
    numbers = []
    for member in get_args(kind):
        numbers += unbounded_numbers(member)
    return numbers


@pytest.mark.parametrize("section", [Config, EncoderOptions])
def test_every_number_of_a_configuration_has_bounds(section: type[Any]) -> None:
    for key, kind in kinds_of(section).items():
        assert unbounded_numbers(kind) == [], key


@pytest.mark.parametrize(
    ("override", "words"),
    [
        # beyond what libraries and hardware take
        ("seed=4294967296", "seed is 4294967296; it must be a whole number from 0 to 4294967295"),
        (f"seed={'9' * 5000}", "seed has 5,000 characters"),
        ("data.cache_bytes=9223372036854775808", "to 9223372036854775807"),
        ("data.num_workers=100000", "from 0 to 256"),
        ("train.global_batch=99999999999", "from 1 to 16777216"),
        ("evaluate.user_chunk=1000000", "from 1 to 65536"),
        ("recommender.width=1000000", "from 1 to 8192"),
        ("loss.temperature=1e-30", "from 0.0001 to 10000.0"),
        ("optim.betas=[0.9,.inf]", "a list of two numbers from 0 to below 1"),
        # durations that overflow, or are written oddly
        ("train.duration=1e9 epochs", "is not a duration"),
        ("train.duration=2000000 epochs", "it must be at most 1000000 epochs"),
        ("train.duration=010 steps", "is not a duration"),
        ("train.duration=١ steps", "is not a duration"),
        ("train.log_every=101%", "it must be at most 100%"),
        # names that lead out of the folder of runs, or that file systems refuse
        ("name=..", "it must be a folder's name"),
        ("name=a/../b", "it must be a folder's name"),
        ("name=/etc", "it must be a folder's name"),
        ('name=""', "it must be a folder's name"),
        ("name=" + "x" * 201, "of at most 200 bytes"),
        # characters that would control a terminal
        (
            "name=\x1b[31m",
            r"name is '\x1b[31m'; it must not hold line breaks or characters that do not print",
        ),
        ("name=a\nb", "it must not hold line breaks"),
        ("data.url=\udcff", "it must not hold line breaks"),
        # interpolations of OmegaConf
        ("optim.lr=${seed}", "${...} is not replaced in a configuration"),
        ("item.encoders=[${name}]", "${...} is not replaced"),
        ("recommender.options.${x}=3", "${...} is not replaced"),
        ("recommender.options.layers=${oc.env:HOME}", "${...} is not replaced"),
    ],
)
def test_value_out_of_bounds_is_refused(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        load([], [override])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "key",
    ["data.num_workers", "item.prefix_cache_bytes", "optim.encoder_lr", "optim.clip_norm", "seed"],
)
def test_bound_itself_is_allowed(key: str) -> None:
    load([], [f"{key}=0"])
