"""Text stays text, numbers are strict, and every value has bounds."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest

from mlrec.config import Config, load, load_arguments, load_saved, save
from mlrec.config.bounds import Between
from mlrec.config.encoder_options import EncoderOptions
from mlrec.config.keys import kinds_of
from mlrec.models.registry import check_rows

TEXTS = [
    "0123",
    "1_000",
    "1.10",
    "12:30",
    "yes",
    "null",
    "~",
    "1e3",
    '"q"',
    "it's",
    "[x]",
    "{x}",
    "true",
    "a=b",
]
TEXTS += ["0x10", "2026-11-28", "-1", "!x", "&x", "*x", "%x", "@x", "|", ">", "日本"]
TEXTS += ["exp #1", "a: b", "- a", "a,b c"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_on_the_command_line_stays_as_it_is_and_survives_saving(
    text: str, tmp_path: Path
) -> None:
    option = "item.options.id/embedding.checkpoint"
    config = load(
        [], [f"name={text}", f"data.url={text}", f"data.cache_dir={text}", f"{option}={text}"]
    )
    assert (config.name, config.data.url, config.data.cache_dir) == (text, text, text)
    assert config.item.options == {"id/embedding": {"checkpoint": text}}
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
def test_text_in_a_file_keeps_its_source(text: str, tmp_path: Path) -> None:
    content = f"name: {text}\ntracking: {{entity: {text}}}\nitem: {{encoders: [{text}], options: {{{text}: {{features: {text}}}}}}}\n"
    (tmp_path / "run.yaml").write_text(content)
    config = load([tmp_path / "run.yaml"])
    assert (config.name, config.tracking.entity, config.item.encoders) == (text, text, (text,))
    assert config.item.options == {text: {"features": text}}


@pytest.mark.parametrize(
    "text",
    ["010", "0x10", "0o7", "1_000", "1:30", "١", "+5", " 5", "5 ", "1.", "1.0", "1e3", "-0", "'3'"],
)
def test_a_whole_number_written_oddly_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"^seed is .*; it must be a whole number from 0 to 4294967295, written in plain digits",
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
def test_a_number_written_oddly_or_not_finite_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^optim\.lr is .*; it must be a number from 0 to 1e\+38"
    ) as error:
        load([], [f"optim.lr={text}"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), (".5", 0.5), ("0.10", 0.1), ("8", 8.0), ("1E-3", 1e-3), ("0", 0.0)],
)
def test_a_number_is_written_as_in_python_or_json(text: str, value: float) -> None:
    assert load([], [f"optim.lr={text}"]).optim.lr == value


@pytest.mark.parametrize("text", ["yes", "True", "on", "1", "TRUE", "y"])
def test_a_truth_value_is_true_or_false(text: str) -> None:
    with pytest.raises(ValueError, match=r"^loss\.logq is .*; it must be true or false$"):
        load([], [f"loss.logq={text}"])


def _numbers(kind: Any) -> list[Any]:
    """The kinds of numbers within a kind that have no bounds."""
    if get_origin(kind) is Annotated:
        return [] if any(isinstance(one, Between) for one in get_args(kind)) else [kind]
    return (
        [kind]
        if kind in (int, float)
        else [one for part in get_args(kind) for one in _numbers(part)]
    )


def test_every_number_of_a_configuration_has_bounds() -> None:
    for section in (Config, EncoderOptions):
        assert {
            key: _numbers(kind) for key, kind in kinds_of(section).items() if _numbers(kind)
        } == {}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=4294967296", "seed is 4294967296; it must be a whole number from 0 to 4294967295"),
        (f"seed={'9' * 5000}", "seed has 5,000 characters"),
        ("data.cache_bytes=9223372036854775808", "to 9223372036854775807"),
        ("data.num_workers=100000", "from 0 to 256"),
        ("train.global_batch=99999999999", "from 1 to 16777216"),
        ("evaluate.user_chunk=1000000", "from 1 to 65536"),
        ("recommender.width=1000000", "from 1 to 8192"),
        ("loss.temperature=1e-30", "from 0.0001 to 10000.0"),
        ("optim.betas=[0.9,.inf]", "a list of two numbers from 0 to below 1"),
        ("train.duration=1e9 epochs", "is not a duration"),
        ("train.duration=2000000 epochs", "it must be at most 1000000 epochs"),
        ("train.duration=010 steps", "is not a duration"),
        ("train.duration=١ steps", "is not a duration"),
        ("train.log_every=101%", "it must be at most 100%"),
        ("name=..", "it must be a folder's name"),
        ("name=a/../b", "it must be a folder's name"),
        ("name=/etc", "it must be a folder's name"),
        ('name=""', "it must be a folder's name"),
        ("name=" + "x" * 201, "of at most 200 bytes"),
        (
            "name=\x1b[31m",
            r"name is '\x1b[31m'; it must not hold line breaks or characters that do not print",
        ),
        ("name=a\nb", "it must not hold line breaks"),
        ("data.url=\udcff", "it must not hold line breaks"),
        ("optim.lr=${seed}", "${...} is not replaced in a configuration"),
        ("item.encoders=[${name}]", "${...} is not replaced"),
        ("recommender.options.${x}=3", "${...} is not replaced"),
        ("recommender.options.layers=${oc.env:HOME}", "${...} is not replaced"),
    ],
)
def test_a_value_out_of_bounds_is_refused(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        load([], [override])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("frames=0", "is 0; it must be a whole number from 1 to 1024"),
        ("frames=05", "is '05'; it must be a whole number"),
        ("frames=true", "is true; it must be a whole number"),
        ("size=32px", "is '32px'; it must be a whole number from 1 to 4096"),
        ("width=64.0", "is 64.0; it must be a whole number"),
        ("length=1e9", "is 1e9; it must be a whole number"),
        ("mean=[0.5,0.5]", "is [0.5, 0.5]; it must be a list of three numbers"),
        ("mean=0.5", "it must be a list of three numbers"),
        ("mean=[0.5,0.5,nan]", "it must be a list of three numbers from -1000 to 1000"),
        ("std=[0.5,0.5,0]", "it must be a list of three numbers from 1e-06 to 1000"),
        ("lr=fast", "is 'fast'; it must be a number from 0 to 1e+38"),
        ("weight_decay=nan", "it must be a number"),
        ("config=3", "it must be options with their values"),
        ("config={hidden_size: 010}", ".config.hidden_size is '010'; write a number like 8 or 0.5"),
        (
            "config={a: yes}",
            ".config.a is 'yes'; write a number like 8 or 0.5, true, false or null, or put a text in quotes",
        ),
        ("config={token: hf_abc}", ".config.token would be kept in the run's folder"),
        ("output=scores", "is 'scores'; this encoder has pooled features only"),
        ("output=both", "is 'both'; it must be one of pooled, scores"),
        ("tuning=deep", "is 'deep'; it must be one of frozen, top, half, full, scratch"),
        ("projection=relu", "is 'relu'; it must be one of gelu, linear, mlp"),
        ("dropout=1", "is 1; it must be a number from 0 to below 1"),
        ("whiten=2", "is 2; it must be a number from 0 to 1"),
        ("framse=3", ": unknown option; did you mean 'frames'?"),
        ("licence=MIT", ": unknown option; an encoder has checkpoint, config, dropout, "),
    ],
)
def test_an_option_of_an_encoder_that_does_not_fit_is_named(option: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{words}")) as error:
        check_rows(load([], ["item.encoders=[video/tiny]", f"item.options.video/tiny.{option}"]))
    assert str(error.value).startswith("item.options.video/tiny.")
    assert "\n" not in str(error.value)


def test_options_of_an_encoder_have_their_types() -> None:
    options = [
        "frames=8",
        "mean=[.5, 0, 1]",
        "std=[1,1,1]",
        "lr=null",
        "checkpoint=1.10",
        "config={a: 1e-4, b: '1e-4', c: null}",
    ]
    config = load(
        [],
        [
            "item.encoders=[video/tiny]",
            *(f"item.options.video/tiny.{option}" for option in options),
        ],
    )
    found = {
        "frames": 8,
        "mean": (0.5, 0.0, 1.0),
        "std": (1.0, 1.0, 1.0),
        "lr": None,
        "checkpoint": "1.10",
    }
    assert config.item.options == {
        "video/tiny": {**found, "config": {"a": 1e-4, "b": "1e-4", "c": None}}
    }
    check_rows(config)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["item.encoders=[video/tiny]", "item.options.video/tiny={frames: 1000, size: 4000}"],
            "pixels an item; lower frames or size",
        ),
        (
            ["item.encoders=[text/huggingface]", "item.options.text/huggingface.length=100000"],
            "a title has at most 32,768 tokens",
        ),
        (
            ["recommender.options.layers=100000"],
            "recommender.options.layers is 100000; it must be from 1 to 256",
        ),
        (["recommender.options.layers=02"], "recommender.options.layers is '02'"),
        (
            ["recommender.options.dropout=1"],
            "recommender.options.dropout is 1; it must be from 0 to below 1",
        ),
        (["recommender.options.pre_norm=yes"], "recommender.options.pre_norm is 'yes'"),
        (
            ["recommender.name=nextitnet", "recommender.options.dilations=[]"],
            "recommender.options.dilations is []",
        ),
        (
            ["recommender.name=item_knn", "recommender.options.decay=2"],
            "recommender.options.decay is 2; it must be from 1e-06 to 1",
        ),
        (
            ["recommender.name=item_knn", "recommender.options.k1=inf"],
            "recommender.options.k1 is 'inf'",
        ),
    ],
)
def test_rows_refuse_absurd_options(overrides: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check_rows(load([], overrides))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("overlap_com=true", "unknown option; did you mean 'overlap_comm'?"),
        ("stage=3", "cannot be set: set zero.stage"),
        ("offload_optimizer={device: cpu}", "cannot be set: set zero.offload_optimizer"),
        ("overlap_comm=1", "zero.options.overlap_comm is 1; it must be true or false"),
        (
            "reduce_bucket_size=1e6",
            "zero.options.reduce_bucket_size is 1000000.0; it must be a whole number",
        ),
        ("reduce_bucket_size=99999999999999", "it must be at most 2147483647"),
        ("sub_group_size=-1", "DeepSpeed refuses -1"),
        ("offload_param=cpu", "it must be options with their values"),
        (
            "offload_param={device: disk}",
            "zero.options.offload_param.device: DeepSpeed refuses 'disk'",
        ),
    ],
)
def test_an_option_of_zero_that_does_not_fit_is_named(option: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        check_rows(load([], [f"zero.options.{option}"]))
    assert str(error.value).startswith("zero.options.")
    assert "\n" not in str(error.value)


def test_options_of_zero_that_deepspeed_knows_are_accepted() -> None:
    check_rows(
        load(
            [],
            [
                "zero.options={overlap_comm: true, reduce_bucket_size: 1000, stage3_prefetch_bucket_size: 5}"
            ],
        )
    )


@pytest.mark.parametrize("word", ["runs=1/run.yaml", "./a=b/run.yaml"])
def test_a_path_with_an_equals_sign_is_a_file(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / word).parent.mkdir()
    (tmp_path / word).write_text("name: inside\n")
    given = word if word.startswith("./") else str(tmp_path / word)
    assert load_arguments([given, "seed=3"]).name == "inside"
