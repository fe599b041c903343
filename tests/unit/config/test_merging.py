"""What files and command lines may hold: whose options count, and what is said of those that do not fit."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from mlrec.config import Config, load, load_arguments, load_saved, save
from mlrec.train.sweep import read_sweep

CONFIGS = Path(__file__).parents[3] / "configs"
SASREC = CONFIGS / "recommender" / "sasrec.yaml"
GRU4REC = CONFIGS / "recommender" / "gru4rec.yaml"
TITLE = CONFIGS / "item" / "minilm_title.yaml"


@pytest.fixture
def ids(tmp_path: Path) -> str:
    """A file whose base sets options of SASRec."""
    (tmp_path / "id.yaml").write_text(f"base: [{SASREC}]\nname: id\n")
    return str(tmp_path / "id.yaml")


@pytest.mark.parametrize(
    ("arguments", "name", "options"),
    [
        ([], "sasrec", {"layers": 2, "heads": 2, "dropout": 0.1}),
        ([str(GRU4REC)], "gru4rec", {"layers": 1, "dropout": 0.1}),
        ([str(GRU4REC), str(SASREC)], "sasrec", {"layers": 2, "heads": 2, "dropout": 0.1}),
        (["recommender.name=gru4rec"], "gru4rec", {}),
        (["recommender.options.layers=3", "recommender.name=gru4rec"], "gru4rec", {"layers": 3}),
        (["recommender.name=gru4rec", "recommender.options.layers=3"], "gru4rec", {"layers": 3}),
        (
            ["recommender.name=gru4rec", "recommender.name=sasrec"],
            "sasrec",
            {"layers": 2, "heads": 2, "dropout": 0.1},
        ),
        (["recommender.options.layers=3"], "sasrec", {"layers": 3, "heads": 2, "dropout": 0.1}),
    ],
)
def test_another_recommender_has_none_of_the_options_before(
    arguments: list[str], name: str, options: dict[str, Any], ids: str
) -> None:
    found = load_arguments([ids, *arguments]).recommender
    assert (found.name, found.options) == (name, options)


def test_a_file_that_names_another_recommender_than_its_base_keeps_its_own_options(
    tmp_path: Path, ids: str
) -> None:
    (tmp_path / "gru.yaml").write_text(
        "base: [id.yaml]\nrecommender: {options: {layers: 3}, name: gru4rec}\n"
    )
    assert load([tmp_path / "gru.yaml"]).recommender.options == {"layers": 3}


def test_the_points_of_a_grid_change_the_recommender_of_the_base(tmp_path: Path, ids: str) -> None:
    (tmp_path / "study.yaml").write_text(
        "base: [id.yaml]\ngrid: {recommender.name: [gru4rec, sasrec]}\n"
    )
    assert [run.config.recommender.options for run in read_sweep(tmp_path / "study.yaml")] == [
        {},
        {"layers": 2, "heads": 2, "dropout": 0.1},
    ]


def test_encoders_that_left_the_list_take_their_options_along(tmp_path: Path) -> None:
    length = {
        "text/huggingface": {"checkpoint": "sentence-transformers/all-MiniLM-L6-v2", "length": 48}
    }
    assert load([TITLE], ["item.encoders=[id/embedding]"]).item.options == {}
    dropout = "item.options.id/embedding.dropout=0.3"
    assert load([TITLE], [dropout, "item.encoders=[id/embedding]"]).item.options == {
        "id/embedding": {"dropout": 0.3}
    }
    both = "item.encoders=[id/embedding,text/huggingface]"
    assert load([TITLE], [both]).item.options == length
    (tmp_path / "machine.yaml").write_text("item: {options: {video/tiny: {size: 32}}}\n")
    (tmp_path / "tiny.yaml").write_text("item: {encoders: [video/tiny]}\n")
    assert load([tmp_path / "machine.yaml", tmp_path / "tiny.yaml"]).item.options == {
        "video/tiny": {"size": 32}
    }


def test_options_of_an_encoder_that_was_never_in_the_list_are_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("item: {options: {video/tinny: {size: 32}}}\n")
    for options in (
        ["item.encoders=[video/tiny]"],
        ["item.encoders=[video/tiny]", "item.options.video/tiny.size=32"],
    ):
        with pytest.raises(
            ValueError,
            match=r"item\.options\.video/tinny is set, but item\.encoders is \['video/tiny'\]",
        ):
            load([tmp_path / "wrong.yaml"], options)
    with pytest.raises(ValueError, match=r"item\.options\.text/huggingface is set, but"):
        load([TITLE], ["item.encoders=[id/embedding]", "item.options.text/huggingface.length=32"])


def test_a_saved_configuration_keeps_its_options_whatever_its_recommender(tmp_path: Path) -> None:
    config = load([GRU4REC, TITLE])
    save(config, tmp_path / "config.yaml")
    assert load([tmp_path / "config.yaml"]) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "train.duration: 3 epochs",
            ": unknown key 'train.duration'; in a file keys are nested, write train: {duration: ...}",
        ),
        (
            "recommender.options.layers: 3",
            ": unknown key 'recommender.options.layers'; in a file keys are nested, write recommender: {options: {layers: ...}}",
        ),
        ("optim.lrr: 3", ": unknown key 'optim.lrr'; did you mean 'optim.lr'?"),
        ("nowhere.zzz: 3", ": unknown key 'nowhere.zzz'; a configuration has name, "),
        ("base: id.yaml", ": base is 'id.yaml'; it must be a list of files, write base: [id.yaml]"),
        (
            "base: [3]",
            ": base is '3'; base files are YAML files on this machine, with names in .yaml or .yml",
        ),
        ("base:", ": base is ''; it must be a list of files"),
        (
            "- seed",
            " is a list; a configuration file must hold keys with their values, such as seed: 3",
        ),
        ("3", " is a single value; a configuration file must hold keys"),
        ("seed", " is a single value; a configuration file must hold keys"),
        ("seed:", ": seed has no value; it must be a whole number"),
        ("name: x\nseed: [", " is not YAML: line 3: while parsing a flow node, did not find"),
        (
            "name: x\nseed: 1\nseed: 2",
            ": line 3: the key 'seed' occurs twice in the mapping that begins in line 1",
        ),
        ("name: x\n  seed: 1", " is not YAML: line 2: mapping values are not allowed"),
        ("optim: {betas: [0.9]}", ": optim.betas is [0.9]; it must be a list of two numbers"),
        ("optim:", ": optim has no value; it must be a section with lr, "),
    ],
)
def test_a_file_that_does_not_fit_is_named_on_one_line(
    text: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{file}{words}")) as error:
        load([file])
    assert "\n" not in str(error.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=rf"^{tmp_path} is a folder, not a configuration file; it holds no YAML file$",
    ):
        load_arguments([str(tmp_path)])
    save(Config(), tmp_path / "config.yaml")
    with pytest.raises(
        ValueError, match=rf"is a folder, .*; name a file in it, such as {tmp_path}/config\.yaml$"
    ):
        load_arguments([str(tmp_path)])


def test_a_file_of_other_bytes_is_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"run\.yaml is not YAML: 'utf-8'"):
        load([tmp_path / "run.yaml"])


@pytest.mark.parametrize(
    ("word", "words"),
    [
        (
            "--dryrun",
            "--dryrun is no option of this command, which takes files and key=value; see: mlrec --help",
        ),
        ("-v", "-v is no option of this command"),
        ("--launcher=x", "--launcher=x is no option of this command"),
        ("optim.lr", "'optim.lr' is neither a file nor key=value; write optim.lr=VALUE"),
        ("optim.lrr", "'optim.lrr' is neither a file nor key=value; write optim.lr=VALUE"),
        ("lr", "'lr' is neither a file nor key=value; write optim.lr=VALUE"),
        ("optim", "'optim' is neither a file nor key=value; write optim.KEY=VALUE"),
        ("recommender.options.layers", "write recommender.options.layers=VALUE"),
        ("item.options.id/embedding.lr", "write item.options.id/embedding.lr=VALUE"),
        ("quickstart", "there is no configuration file quickstart"),
        ("name.yaml", "there is no configuration file name.yaml"),
        ("configs/nowhere/seed", "there is no configuration file configs/nowhere/seed"),
    ],
)
def test_a_word_that_is_no_file_is_taken_for_what_it_means(word: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        load_arguments([str(SASREC), word])


def test_an_override_without_a_value_is_told_how_to_have_one() -> None:
    with pytest.raises(
        ValueError, match=r"'optim\.lr' is neither a file nor key=value; write optim\.lr=VALUE"
    ):
        load([], ["optim.lr"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: &a b", ": line 1: anchors and aliases are not supported; write the value itself"),
        ("a: &a [x]\nb: [*a, *a]", ": line 1: anchors and aliases are not supported"),
        ("seed: !!int 3", ": line 1: the tag 'tag:yaml.org,2002:int' is not supported"),
        ("name: !!python/object/apply:os.system [x]", "is not supported"),
        ("<<: {name: x}", ": line 1: a key must be a plain text"),
        ("? [a]\n: b", ": line 1: a key must be a plain text"),
        ("name: x\n'name': y", ": line 2: the key 'name' occurs twice"),
        ("name: x\n---\nname: y", ": line 2: a second document begins"),
        ("name: " + "{a: " * 100 + "1" + "}" * 100, ": line 1: nested more than 16 levels deep"),
        ("name: " + "[" * 100_000, " is not YAML: line 1: "),
        ("name: ${oc.env:HOME}", ": name is '${oc.env:HOME}'; ${...} is not replaced"),
        ('name: "a\\0b"', ": name is 'a\\x00b'; it must not hold line breaks"),
        ("resume: {force: true}", ": resume.force is for one command. Give it on the command line"),
        ("base: [/dev/zero]", ": base is '/dev/zero'; base files are YAML files on this machine"),
        ("base: [https://host/x.yaml]", ": base is 'https://host/x.yaml'; base files are"),
        ("base: ['${HOME}/x.yaml']", ": base is '${HOME}/x.yaml'; ${...} is not replaced"),
        ("base: [zero.yaml]", "/zero.yaml is no regular file"),
        ("base: [fifo.yaml]", "/fifo.yaml is no regular file"),
        ("base: [folder.yaml]", "/folder.yaml is a folder"),
        ("base: [large.yaml]", "/large.yaml is larger than 1,000,000 bytes"),
        ("base: [../" + "x" * 300 + ".yaml]", "cannot be read: File name too long"),
    ],
)
def test_a_hostile_file_is_refused_on_one_line(text: str, words: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "large.yaml").write_text("# " + "x" * 1_000_000)
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        load_arguments([str(tmp_path / "run.yaml")])
    assert "\n" not in str(error.value)


def test_a_configuration_file_is_a_yaml_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "run.txt").write_text("name: x")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfname: x")
    for name in ("fifo.yaml", "run.txt"):
        with pytest.raises(ValueError, match=f"{name} is no "):
            load_arguments([str(tmp_path / name)])
    assert load_arguments([str(tmp_path / "bom.yaml")]).name == "x"


def test_base_files_are_bounded_in_depth_and_number(tmp_path: Path) -> None:
    for place in range(30):
        (tmp_path / f"deep{place}.yaml").write_text(f"base: [deep{place + 1}.yaml]")
    for place in range(9):
        (tmp_path / f"wide{place}.yaml").write_text(
            f"base: [{', '.join([f'wide{place + 1}.yaml'] * 10)}]"
        )
    (tmp_path / "wide9.yaml").write_text("seed: 1")
    for name in ("deep0.yaml", "wide0.yaml"):
        with pytest.raises(
            ValueError, match="more than 10 levels of base files, or more than 100 files"
        ):
            load([tmp_path / name])
    (tmp_path / "sub").mkdir()
    (tmp_path / "loop.yaml").write_text("base: [sub/../loop.yaml]")
    with pytest.raises(ValueError, match="circle"):
        load([tmp_path / "loop.yaml"])


def test_force_is_for_one_command_and_is_not_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.yaml"
    save(load([], ["resume.force=true"]), file)
    assert "resume" not in file.read_text()
    with file.open("a") as earlier:
        earlier.write("resume:\n  force: true\n")  # as an earlier version saved it
    assert not load_saved(file).resume.force
    assert "resume.force=true is ignored" in caplog.text
    assert load_saved(file, ["resume.force=true"]).resume.force


def test_a_configuration_of_an_earlier_version_loads(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(EARLIER)
    config = load_saved(tmp_path / "config.yaml")
    assert (config.name, config.optim.eps, config.optim.betas) == ("0123", 1e-8, (0.9, 0.999))
    assert config.item.options == {
        "video/tiny": {"size": 32, "mean": (0.5, 0.5, 0.5), "tuning": None}
    }
    assert config.recommender.options == {"layers": 2, "dropout": 0.1}
    assert load([tmp_path / "config.yaml"]) == config


EARLIER = """\
name: '0123'
run_dir: runs/{name}
seed: 0
data:
  url: /data/set
  cache_bytes: 107374182400
  balance_slack: 0.1
item:
  encoders:
  - video/tiny
  options:
    video/tiny:
      size: 32
      mean:
      - 0.5
      - 0.5
      - 0.5
      tuning: null
recommender:
  name: sasrec
  options:
    layers: 2
    dropout: 0.1
optim:
  betas:
  - 0.9
  - 0.999
  eps: 1.0e-08
loss:
  name: in_batch_softmax
zero:
  stage: 2
train:
  duration: 20 epochs
  log_every: 5%
evaluate:
  select_by: hr@10
tracking:
  wandb: disabled
resume:
  force: false
"""
