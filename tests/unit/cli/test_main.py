import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mlrec
from mlrec import __version__
from mlrec.cli import bench, commands, completion, main, recommend, report
from mlrec.cli import list as listing
from mlrec.cli.row_names import row_names
from mlrec.data.schema import lookup
from mlrec.models.registry import TABLES
from mlrec.report.paper import PAPER_TABLES
from mlrec.runtime.entry_point import run_main
from mlrec.runtime.printable import as_cell

# each takes from 0.2 to several seconds to import
HEAVY_LIBRARIES = (
    "torch",
    "transformers",
    "deepspeed",
    "torchvision",
    "pandas",
    "pyarrow",
    "wandb",
)
PRINT_KEYS_HELP_AND_HEAVY_IMPORTS = """
import contextlib, sys
from mlrec.cli import bench, main
command_lines = [[], *zip(main.COMMANDS), *(("bench", name) for name in bench.BENCHES)]
for words in command_lines:
    with contextlib.suppress(SystemExit):
        main.run_command([*words, "--help"])
for words in (["--version"], ["list", "keys"]):
    main.run_command(words)
print([name for name in sys.argv[1].split(",") if name in sys.modules], file=sys.stderr)
"""


def test_lookup_unknown_name_lists_near_names() -> None:
    with pytest.raises(
        ValueError,
        match=r"unknown encoder 'video/x3d-s'; did you mean 'video/x3d_s'.*mlrec list encoders",
    ):
        lookup({"video/x3d_s": 1, "id/embedding": 2}, "video/x3d-s", "encoder")


@pytest.mark.parametrize(
    ("kind", "table"), [("loss", "losses"), ("fusion", "fusions"), ("gpu", "gpus")]
)
def test_lookup_unknown_name_names_the_table_as_the_command_does(kind: str, table: str) -> None:
    assert table in TABLES
    with pytest.raises(ValueError, match=rf"see: mlrec list {table}$"):
        lookup({"bpr": 1}, "softmax", kind)


def words_on_tab(line: str, folder: Path) -> list[str]:
    """Return what a shell offers when Tab is pressed at the end of a command line."""
    offered = folder / "offered"
    module = {"mlrec": "mlrec", "mlrec-shards": "shards_tools"}[line.split()[0]]
    shell = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_COMP_WORDBREAKS": " =:",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(offered),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "PYTHONPATH": str(Path(mlrec.__file__).parents[1]),
    }
    command = [sys.executable, "-X", "importtime", "-m", module]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | shell, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    # defaults of make are in a module that imports pyarrow
    assert imported.isdisjoint(set(HEAVY_LIBRARIES) - {"pyarrow"})
    return offered.read_text().split("\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mlrec tr", ["train "]),
        ("mlrec bench s", ["step", "scale"]),
        ("mlrec list l", ["losses "]),
        ("mlrec train co", ["configs/"]),
        ("mlrec train configs/q", ["configs/quick.yaml "]),
        ("mlrec train configs/quick.yaml train.dur", ["train.duration="]),
        ("mlrec train x.yaml --dry-run data.c", ["data.cache_dir=", "data.cache_bytes="]),
        # bash takes = for the start of a new word
        ("mlrec train x.yaml loss.negatives=", ["global", "local"]),
        ("mlrec train x.yaml item.chunk=", ["auto "]),
        ("mlrec train x.yaml loss.name=b", ["bpr", "bce"]),
        (
            "mlrec train x.yaml item.encoders=[id/embedding,video/r3",
            ["\\[id/embedding,video/r3d_r50", "\\[id/embedding,video/r3d_r18"],
        ),
        ("mlrec train x.yaml --d", ["--dry-run "]),
        ("mlrec evaluate c", ["configs/"]),
        ("mlrec evaluate configs --split ", ["test", "validation"]),
        ("mlrec-shards mak", ["make "]),
        ("mlrec-shards make RAW OUT --policy s", ["scenes "]),
    ],
)
def test_tab_offers_commands_flags_files_and_keys(
    line: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "configs").mkdir()
    for name in ("quick.yaml", "quick.txt", ".hidden.yaml"):
        (tmp_path / "configs" / name).touch()
    assert words_on_tab(line, tmp_path) == words


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("item.encoders", "encoders"),
        ("item.fusion", "fusions"),
        ("loss.name", "losses"),
        ("recommender.name", "recommenders"),
    ],
)
def test_row_names_are_those_of_the_table(key: str, table: str) -> None:
    # features have any name
    assert set(row_names(key)) == set(TABLES[table]) - {"features/vectors"}


def test_settings_of_a_list_begin_with_its_bracket() -> None:
    assert "item.encoders=[video/tiny" in completion.settings("item.encoders=")


def test_list_recommenders_prints_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    main.run_command(["list", "recommenders"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["sasrec"].endswith("  layers=2, heads=2, dropout=0.1, pre_norm=False")
    assert lines["nextitnet"].endswith("  repeats=2, dilations=(1, 4)")
    main.run_command(["list", "recommenders", "--json"])
    assert json.loads(capsys.readouterr().out)["popularity"]["options"] == {}


def test_list_losses_prints_their_keys(capsys: pytest.CaptureFixture[str]) -> None:
    main.run_command(["list", "losses"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["bpr"].endswith("batch.  loss.negatives='global', loss.temperature=1.0")
    assert "loss.sampled=100" in lines["sampled_softmax"]


@pytest.mark.parametrize("table", ["recommenders", "losses", "fusions"])
def test_list_table_descriptions_are_whole_sentences(
    table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run_command(["list", table, "--json"])
    descriptions = [row["description"] for row in json.loads(capsys.readouterr().out).values()]
    assert [text for text in descriptions if not text.endswith(".") or "\n" in text] == []


def test_list_keys_prints_type_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    main.run_command(["list", "keys"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert re.search(
        r'  str = "20 epochs"  Length of the run: "20 epochs" or "1000 steps"\.$',
        lines["train.duration"],
    )
    assert '  auto | fp32 | tf32 | bf16 = "auto"  ' in lines["train.precision"]
    assert (
        '  tuple[str, ...] = ["id/embedding"]  Rows of mlrec list encoders'
        in lines["item.encoders"]
    )
    main.run_command(["list", "keys", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert listed["optim.lr"] == {
        "type": "float",
        "default": 1e-3,
        "description": "Peak learning rate of the recommender.",
    }
    assert listed.keys() == lines.keys()


@pytest.mark.parametrize("table", ["keys", *TABLES])
def test_list_table_prints_rows(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    main.run_command(["list", table])
    assert len(capsys.readouterr().out.splitlines()) >= 1


def test_choices_equal_the_tables_of_the_modules_that_are_not_imported() -> None:
    assert set(listing.TABLE_NAMES) == set(TABLES)
    assert set(report.PAPER_TABLE_NAMES) == set(PAPER_TABLES)


@pytest.mark.parametrize("module", ["mlrec", "shards_tools"])
def test_python_m_version_prints_name_version_and_commit(module: str) -> None:
    name = {"mlrec": "mlrec", "shards_tools": "mlrec-shards"}[module]
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"{name} {__version__}( \(commit [0-9a-f]{{12}}\+?\))?\n", done.stdout)


def test_commands_that_only_read_results_do_not_import_torch() -> None:
    code = """
import sys
import mlrec.evaluation.compare
from mlrec.cli import main
main.run_command(["report", "--table", "baselines"])
print("torch" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"


def test_help_of_every_command_and_list_keys_import_no_heavy_library() -> None:
    # in a process of its own, because this one has imported torch
    command = [sys.executable, "-c", PRINT_KEYS_HELP_AND_HEAVY_IMPORTS, ",".join(HEAVY_LIBRARIES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("usage: mlrec ") == 1 + len(main.COMMANDS) + len(bench.BENCHES)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--local_rank=1", "list", "losses"],
        ["list", "--local_rank=1", "losses"],
        ["list", "losses", "--local_rank", "1"],
    ],
)
def test_local_rank_of_the_deepspeed_launcher_is_ignored(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main.run_command(words)
    assert "bpr" in capsys.readouterr().out


@pytest.mark.parametrize("raw_id", ["7", "a,b", 'said "a"', '"a", b'])
def test_raw_ids_of_reads_what_messages_quote(raw_id: str) -> None:
    assert recommend.raw_ids_of(f"1, {as_cell(raw_id)}, 2") == ["1", raw_id, "2"]


def test_raw_ids_of_history_keeps_quoted_commas() -> None:
    assert recommend.raw_ids_of('1, "a,b" ,,2') == ["1", "a,b", "2"]
    assert recommend.raw_ids_of(" , ") == []


def test_program_near_command_is_suggested() -> None:
    program = commands.Program("mlrec", "", main.COMMANDS)
    with pytest.raises(ValueError, match=r"^unknown command 'evalute'\. Did you mean 'evaluate'\?"):
        program.run(["evalute"])


def test_bad_input_is_one_line_and_exit_code_2() -> None:
    # the whole program, as a shell runs it
    done = subprocess.run([sys.executable, "-m", "mlrec", "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "error: unknown command 'trian'. Did you mean 'train'? "
        f"mlrec has {', '.join(main.COMMANDS)}; see: mlrec --help\n"
    )


def test_failure_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(arguments: object) -> None:
        raise RuntimeError("the disk is full")

    assert run_main(fail, []) == 1
    assert "the disk is full" in capsys.readouterr().err
