import json
import re
import subprocess
import sys

import pytest

from mlrec.cli import main as cli
from mlrec.data.schema import lookup
from mlrec.models.registry import TABLES
from mlrec.runtime.entry_point import run_main


def test_lookup_lists_near_names() -> None:
    with pytest.raises(
        ValueError,
        match=r"unknown encoder 'video/x3d-s'; did you mean 'video/x3d_s'.*mlrec list encoders",
    ):
        lookup({"video/x3d_s": 1, "id/embedding": 2}, "video/x3d-s", "encoder")


@pytest.mark.parametrize(("kind", "table"), [("loss", "losses"), ("fusion", "fusions")])
def test_lookup_names_the_table_as_the_command_does(kind: str, table: str) -> None:
    assert table in TABLES
    with pytest.raises(ValueError, match=rf"see: mlrec list {table}$"):
        lookup({"bpr": 1}, "softmax", kind)


def test_recommenders_are_listed_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    cli.COMMANDS["list"](["recommenders"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["sasrec"].endswith("  layers=2, heads=2, dropout=0.1, pre_norm=False")
    assert lines["nextitnet"].endswith("  repeats=2, dilations=(1, 4)")
    cli.COMMANDS["list"](["recommenders", "--json"])
    assert json.loads(capsys.readouterr().out)["popularity"]["options"] == {}


def test_keys_are_listed_with_type_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    cli.COMMANDS["list"](["keys"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert re.search(
        r'  str = "20 epochs"  Length of the run: "20 epochs" or "1000 steps"\.$',
        lines["train.duration"],
    )
    assert '  fp32 | bf16 = "fp32"  ' in lines["train.precision"]
    assert (
        '  tuple[str, ...] = ["id/embedding"]  Rows of mlrec list encoders'
        in lines["item.encoders"]
    )
    cli.COMMANDS["list"](["keys", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert listed["optim.lr"] == {
        "type": "float",
        "default": 1e-3,
        "description": "Peak learning rate of the recommender.",
    }
    assert listed.keys() == lines.keys()


def test_the_command_that_trains_says_where_keys_are_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.COMMANDS["train"](["--help"])
    assert "mlrec list keys" in capsys.readouterr().out


@pytest.mark.parametrize("table", ["keys", "encoders", "recommenders", "losses", "fusions"])
def test_tables_are_listed(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.COMMANDS["list"]([table])
    assert len(capsys.readouterr().out.splitlines()) >= 1


@pytest.mark.parametrize("asked", ["-h", "--help"])
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_command_says_how_it_is_used(
    command: str, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert run_main(cli.COMMANDS[command], [asked]) == 0
    except SystemExit as ended:  # argparse
        assert ended.code == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"usage: mlrec {command} ")
    assert printed.err == ""


def test_bad_input_is_one_line_and_exit_code_2() -> None:
    done = subprocess.run([sys.executable, "-m", "mlrec", "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: unknown command 'trian'; mlrec knows {', '.join(cli.COMMANDS)}\n"


def test_a_failure_on_the_way_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(arguments: object) -> None:
        raise RuntimeError("the disk is full")

    assert run_main(fail, []) == 1
    assert "the disk is full" in capsys.readouterr().err
