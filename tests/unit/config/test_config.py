import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from mlrec.config import Config, keys, load, save
from mlrec.config.durations import steps_of
from mlrec.config.encoder_options import EncoderOptions
from mlrec.config.key_docs import described
from mlrec.config.keys import kinds_of


def test_a_saved_configuration_loads_equal(tmp_path: Path) -> None:
    config = load(
        [],
        [
            "item.encoders=[video/videomae]",
            "item.options.video/videomae.checkpoint=/weights",
            "optim.lr=1e-4",
        ],
    )
    save(config, tmp_path / "config.yaml")
    assert config.optim.lr == 1e-4
    assert load([tmp_path / "config.yaml"]) == config


def test_bases_come_first_then_the_file_then_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 1\noptim: {lr: 1.0, encoder_lr: 1.0}\n")
    (tmp_path / "run.yaml").write_text("base: [base.yaml]\noptim: {lr: 2.0}\n")
    config = load([tmp_path / "run.yaml"], ["name=x"])
    assert (config.seed, config.optim.lr, config.optim.encoder_lr, config.name) == (
        1,
        2.0,
        1.0,
        "x",
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lrr=3", "did you mean 'optim.lr'"),
        ("lr=0.1", "unknown key 'lr'; did you mean 'optim.lr'?"),
        ("options={}", "did you mean 'item.options' or 'recommender.options' or 'zero.options'?"),
        ("optim.temprature=2", "did you mean 'loss.temperature'?"),
        ("item.encoder=id/embedding", "did you mean 'item.encoders'?"),
        (
            "item.encoders=id/embedding",
            "item.encoders is 'id/embedding', which is no list; write item.encoders=[id/embedding]",
        ),
        (
            "optim.betas=[0.9]",
            "optim.betas is [0.9]; it must be a list of two numbers from 0 to below 1, such as [0.9, 0.999]",
        ),
        ("optim.betas=[a,b]", "optim.betas is ['a', 'b']; it must be a list of two numbers"),
        ("item=3", "item is 3; it must be a section with encoders, options, fusion"),
        ("name=", "name has no value; it must be a text; an empty one is"),
        ("data.url=", "data.url has no value; it must be a text; an empty one is"),
        ("optim.lr=", "optim.lr has no value; it must be a number"),
        (
            "item.tuning=",
            "item.tuning has no value; it must be one of frozen, top, half, full, scratch",
        ),
        ("seed=1.5", "seed is 1.5; it must be a whole number"),
        (
            "recommender.options=[1]",
            "recommender.options is [1]; it must be options with their values, such as {layers: 2}",
        ),
        (
            "item.options.id/embedding=3",
            "item.options.id/embedding is 3; it must be options with their values",
        ),
        (
            "item.encoders=[[id/embedding]]",
            "item.encoders is [['id/embedding']]; it must be a list of names",
        ),
        (
            "optim.betas=[",
            "optim.betas: the value '[' is not YAML; close its brackets, or put it in quotes",
        ),
        (
            "name=${nowhere}",
            "name is '${nowhere}'; ${...} is not replaced in a configuration, write the value itself",
        ),
        ("base=[x.yaml]", "unknown key 'base'"),
        ("trian.duration=3 steps", "did you mean 'train.duration'"),
        ("optim.lr=fast", "optim.lr is 'fast'; it must be a number"),
        ("zero.stage=4", "zero.stage is 4; it must be one of 0, 1, 2, 3"),
        (
            "train.duration=7 parsecs",
            "train.duration: '7 parsecs' is not a duration; write '20 epochs' or '1000 steps'",
        ),
        (
            "optim.warmup=3",
            "optim.warmup: '3' is not a duration; write '100 steps', '2 epochs' or '5%'",
        ),
        ("train.duration=5%", "a share of itself"),
        ("item.encoders=[]", "item.encoders is empty"),
        ("item.options.video/tiny.size=3", "item.options.video/tiny is set, but item.encoders"),
        (
            "train.global_batch=0",
            "train.global_batch is 0; it must be a whole number from 1 to 16777216",
        ),
        ("item.chunk=0", "item.chunk is 0"),
        ("recommender.width=-64", "recommender.width is -64"),
        ("evaluate.user_chunk=0", "evaluate.user_chunk is 0"),
        ("train.keep_last=0", "train.keep_last is 0"),
        ("loss.sampled=0", "loss.sampled is 0"),
        ("loss.temperature=0", "loss.temperature is 0; it must be a number from 0.0001 to 10000.0"),
        ("optim.lr=-1", "optim.lr is -1; it must be a number from 0 to 1e+38"),
        ("optim.lr=nan", "optim.lr is 'nan'; it must be a number"),
        ("optim.encoder_lr=-1e-4", "optim.encoder_lr is -1e-4"),
        ("optim.weight_decay=-0.1", "optim.weight_decay is -0.1"),
        ("optim.encoder_weight_decay=inf", "optim.encoder_weight_decay is 'inf'"),
        ("optim.eps=-1", "optim.eps is -1"),
        ("optim.eps=0", "optim.eps is 0; it must be a number from 1e-20 to 1"),
        ("optim.eps=1e-30", "optim.eps is 1e-30; it must be a number from 1e-20 to 1"),
        ("optim.clip_norm=-5", "optim.clip_norm is -5"),
        (
            "optim.betas=[0.9,1]",
            "optim.betas is [0.9, 1]; it must be a list of two numbers from 0 to below 1",
        ),
        (
            "item.options.id/embedding.lr=-1",
            "item.options.id/embedding.lr is -1; it must be a number from 0 to 1e+38, or null",
        ),
        (
            "item.options.id/embedding.weight_decay=much",
            "item.options.id/embedding.weight_decay is 'much'; it must be a number",
        ),
        ("data.num_workers=-1", "data.num_workers is -1; it must be a whole number from 0 to 256"),
        ("data.cache_bytes=-1", "data.cache_bytes is -1"),
        ("data.max_bad_items=-1", "data.max_bad_items is -1"),
        ("data.balance_slack=-0.1", "data.balance_slack is -0.1"),
        ("item.prefix_cache_bytes=-1", "item.prefix_cache_bytes is -1"),
        ("seed=-1", "seed is -1"),
        ("nonsense", "neither a file nor key=value"),
    ],
)
def test_bad_input_names_the_value_and_the_remedy(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        load([], [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key",
    ["data.num_workers", "item.prefix_cache_bytes", "optim.encoder_lr", "optim.clip_norm", "seed"],
)
def test_a_bound_itself_is_allowed(key: str) -> None:
    load([], [f"{key}=0"])


def test_a_key_that_is_near_to_none_lists_those_of_its_section() -> None:
    with pytest.raises(ValueError, match=r"optim has lr, encoder_lr, .*, warmup$") as error:
        load([], ["optim.learning_rate=3"])
    assert "data" not in str(error.value)
    with pytest.raises(
        ValueError, match=r"a configuration has name, run_dir, seed, data, .*, resume$"
    ):
        load([], ["zzz=3"])


_OPTIONS = [f"item.options.id/embedding.{name}" for name in get_type_hints(EncoderOptions)]
_ANY = [
    "recommender.options.layers",
    "zero.options.overlap_comm",
    "item.options.id/embedding.config.x",
    "zero.options.a.b",
]


@pytest.mark.parametrize("key", [*kinds_of(Config), *_OPTIONS, *_ANY])
def test_every_key_without_a_value_is_told_what_it_takes(key: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^{re.escape(key)} has no value; it must be \S"
    ) as error:
        load([], [f"{key}="])
    assert "\n" not in str(error.value)


def test_every_key_has_a_docstring() -> None:
    leaves = {
        f"{section}.{key}"
        for section, keys_ in asdict(Config()).items()
        if isinstance(keys_, dict)
        for key in keys_
    }
    assert keys().keys() == leaves | {"name", "run_dir", "seed"}
    assert all(
        key.description.endswith(".") or key.description.endswith('"') for key in keys().values()
    )


def test_a_field_without_a_docstring_is_named() -> None:
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


def test_bf16_without_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs zero\.stage 1, 2 or 3"):
        load([], ["train.precision=bf16", "zero.stage=0"])


def test_a_missing_file_names_the_near_one(tmp_path: Path) -> None:
    (tmp_path / "sasrec.yaml").write_text("seed: 1")
    with pytest.raises(ValueError, match=r"did you mean .*sasrec\.yaml"):
        load([tmp_path / "sasrek.yaml"])


def test_bases_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: [b.yaml]")
    (tmp_path / "b.yaml").write_text("base: [a.yaml]")
    with pytest.raises(ValueError, match="circle"):
        load([(tmp_path / "a.yaml").resolve()])


def test_durations() -> None:
    assert steps_of("100 steps", 7, 500) == 100
    assert steps_of("2 epochs", 7, 500) == 14
    assert steps_of("5%", 7, 500) == 25


@pytest.mark.parametrize(
    "file",
    sorted(set(Path("configs").rglob("*.yaml")) - set(Path("configs/sweep").iterdir())),
    ids=str,
)
def test_every_shipped_configuration_loads(file: Path) -> None:
    assert isinstance(load([file]), Config)
    assert file.read_text().startswith("#"), "a configuration opens with what it is"
