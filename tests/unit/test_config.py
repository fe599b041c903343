from pathlib import Path

import pytest

from mlrec.config import Config, load, save
from mlrec.durations import steps_of


def test_a_saved_configuration_loads_equal(tmp_path: Path) -> None:
    config = load([], ["item.encoders=[video/videomae]", "item.options.video/videomae.checkpoint=/weights", "optim.lr=1e-4"])
    save(config, tmp_path / "config.yaml")
    assert config.optim.lr == 1e-4
    assert load([tmp_path / "config.yaml"]) == config


def test_bases_come_first_then_the_file_then_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 1\noptim: {lr: 1.0, encoder_lr: 1.0}\n")
    (tmp_path / "run.yaml").write_text("base: [base.yaml]\noptim: {lr: 2.0}\n")
    config = load([tmp_path / "run.yaml"], ["name=x"])
    assert (config.seed, config.optim.lr, config.optim.encoder_lr, config.name) == (1, 2.0, 1.0, "x")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lrr=3", "did you mean 'optim.lr'"),
        ("trian.duration=3 steps", "did you mean 'train'"),
        ("optim.lr=fast", "optim.lr: Value 'fast'"),
        ("zero.stage=4", "zero.stage: Invalid value '4'"),
        ("train.duration=7 parsecs", "'7 parsecs' is not a duration"),
        ("train.duration=5%", "a share of itself"),
        ("item.encoders=[]", "item.encoders is empty"),
        ("item.options.video/tiny.size=3", "item.options.video/tiny is set, but item.encoders"),
        ("train.global_batch=0", "train.global_batch is 0"),
        ("nonsense", "neither a file nor key=value"),
    ],
)
def test_bad_input_names_the_value_and_the_remedy(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        load([], [override])


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


@pytest.mark.parametrize("file", sorted(set(Path("configs").rglob("*.yaml")) - set(Path("configs/sweep").iterdir())), ids=str)
def test_every_shipped_configuration_loads(file: Path) -> None:
    assert isinstance(load([file]), Config)
    assert file.read_text().startswith("#"), "a configuration opens with what it is"
