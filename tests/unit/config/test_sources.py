"""Files and key=value that do not fit are refused with one line: place, value and remedy."""

import os
import re
from pathlib import Path

import pytest

from mlrec.config import Config, load, load_arguments, save

SASREC = Path(__file__).parents[3] / "configs" / "recommender" / "sasrec.yaml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "train.duration: 3 epochs",
            ": unknown key 'train.duration'; in a file keys are nested, "
            "write train: {duration: ...}",
        ),
        (
            "recommender.options.layers: 3",
            ": unknown key 'recommender.options.layers'; in a file keys are nested, "
            "write recommender: {options: {layers: ...}}",
        ),
        ("optim.lrr: 3", ": unknown key 'optim.lrr'; did you mean 'optim.lr'?"),
        ("nowhere.zzz: 3", ": unknown key 'nowhere.zzz'; a configuration has name, "),
        # base files
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
        # no mapping at all
        ("3", " is a single value; a configuration file must hold keys"),
        ("seed", " is a single value; a configuration file must hold keys"),
        ("seed:", ": seed has no value; it must be a whole number"),
        # YAML errors, with the line
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
def test_load_file_that_does_not_fit_is_named(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{file}{words}")) as error:
        load([file])
    assert "\n" not in str(error.value)


def test_load_folder_is_refused_with_a_file_in_it(tmp_path: Path) -> None:
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


def test_load_missing_file_names_a_near_one(tmp_path: Path) -> None:
    (tmp_path / "sasrec.yaml").write_text("seed: 1")
    with pytest.raises(ValueError, match=r"did you mean .*sasrec\.yaml"):
        load([tmp_path / "sasrek.yaml"])


def test_load_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"run\.yaml is not YAML: 'utf-8'"):
        load([tmp_path / "run.yaml"])


def test_load_file_with_another_suffix_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "run.txt").write_text("name: x")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfname: x")
    for name in ("fifo.yaml", "run.txt"):
        with pytest.raises(ValueError, match=f"{name} is no "):
            load_arguments([str(tmp_path / name)])
    assert load_arguments([str(tmp_path / "bom.yaml")]).name == "x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # parts of YAML that can grow without end, run code or hide a value
        ("name: &a b", ": line 1: anchors and aliases are not supported; write the value itself"),
        ("a: &a [x]\nb: [*a, *a]", ": line 1: anchors and aliases are not supported"),
        ("seed: !!int 3", ": line 1: the tag 'tag:yaml.org,2002:int' is not supported"),
        ("name: !!python/object/apply:os.system [x]", "is not supported"),
        ("<<: {name: x}", ": line 1: a key must be a plain text"),
        ("? [a]\n: b", ": line 1: a key must be a plain text"),
        ("name: x\n'name': y", ": line 2: the key 'name' occurs twice"),
        ("name: x\n---\nname: y", ": line 2: a second document begins"),
        # nesting that would end Python's recursion
        ("name: " + "{a: " * 100 + "1" + "}" * 100, ": line 1: nested more than 16 levels deep"),
        ("name: " + "[" * 100_000, " is not YAML: line 1: "),
        # values that a shell, a terminal or a later command would act on
        ("name: ${oc.env:HOME}", ": name is '${oc.env:HOME}'; ${...} is not replaced"),
        ('name: "a\\0b"', ": name is 'a\\x00b'; it must not hold line breaks"),
        ("resume: {force: true}", ": resume.force is for one command. Give it on the command line"),
        # places that are no files of this machine, never end or block
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
def test_load_hostile_file_is_refused_on_one_line(text: str, words: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "large.yaml").write_text("# " + "x" * 1_000_000)
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        load_arguments([str(tmp_path / "run.yaml")])
    assert "\n" not in str(error.value)


def test_load_bases_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: [b.yaml]")
    (tmp_path / "b.yaml").write_text("base: [a.yaml]")
    with pytest.raises(ValueError, match="circle"):
        load([(tmp_path / "a.yaml").resolve()])


def test_load_bases_are_limited_in_depth_and_number(tmp_path: Path) -> None:
    for place in range(30):
        (tmp_path / f"deep{place}.yaml").write_text(f"base: [deep{place + 1}.yaml]")
    # 10^9 files if nothing stopped them
    for place in range(9):
        bases = ", ".join([f"wide{place + 1}.yaml"] * 10)
        (tmp_path / f"wide{place}.yaml").write_text(f"base: [{bases}]")
    (tmp_path / "wide9.yaml").write_text("seed: 1")
    for name in ("deep0.yaml", "wide0.yaml"):
        with pytest.raises(
            ValueError, match="more than 10 levels of base files, or more than 100 files"
        ):
            load([tmp_path / name])
    # the same file by another name
    (tmp_path / "sub").mkdir()
    (tmp_path / "loop.yaml").write_text("base: [sub/../loop.yaml]")
    with pytest.raises(ValueError, match="circle"):
        load([tmp_path / "loop.yaml"])


@pytest.mark.parametrize(
    ("word", "words"),
    [
        (
            "--dryrun",
            "--dryrun is no option of this command, which takes files and key=value; "
            "see: mlrec --help",
        ),
        # options, which no configuration has
        ("-v", "-v is no option of this command"),
        ("--launcher=x", "--launcher=x is no option of this command"),
        # keys without a value
        ("optim.lr", "'optim.lr' is neither a file nor key=value; write optim.lr=VALUE"),
        ("optim.lrr", "'optim.lrr' is neither a file nor key=value; write optim.lr=VALUE"),
        ("lr", "'lr' is neither a file nor key=value; write optim.lr=VALUE"),
        ("optim", "'optim' is neither a file nor key=value; write optim.KEY=VALUE"),
        ("recommender.options.layers", "write recommender.options.layers=VALUE"),
        ("item.options.id/embedding.lr", "write item.options.id/embedding.lr=VALUE"),
        # names of files
        ("quickstart", "there is no configuration file quickstart"),
        ("name.yaml", "there is no configuration file name.yaml"),
        ("configs/nowhere/seed", "there is no configuration file configs/nowhere/seed"),
    ],
)
def test_load_arguments_word_like_a_key_names_the_key(word: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        load_arguments([str(SASREC), word])


def test_load_override_without_a_value_names_the_form() -> None:
    with pytest.raises(
        ValueError, match=r"'optim\.lr' is neither a file nor key=value; write optim\.lr=VALUE"
    ):
        load([], ["optim.lr"])


@pytest.mark.parametrize("word", ["runs=1/run.yaml", "./a=b/run.yaml"])
def test_load_arguments_path_with_an_equals_sign_is_a_file(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / word).parent.mkdir()
    (tmp_path / word).write_text("name: inside\n")
    path = word if word.startswith("./") else str(tmp_path / word)
    assert load_arguments([path, "seed=3"]).name == "inside"
