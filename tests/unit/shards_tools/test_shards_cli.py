"""The program mlrec-shards: its table of commands, help and exit codes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from mlrec.data.media.policies import FRAME_POLICIES
from shards_tools import cli
from shards_tools.commands import common, make
from shards_tools.pack.engines import ENGINES

# importing either takes longer than all that a help prints
HEAVY_LIBRARIES = ("torch", "av", "pandas")
PRINT_HELP_AND_HEAVY_IMPORTS = """
import contextlib, sys
from shards_tools import cli
for name in ["", *cli.COMMANDS]:
    with contextlib.suppress(SystemExit):
        cli.run_command([name, "--help"] if name else ["--help"])
print([name for name in sys.argv[1].split(",") if name in sys.modules], file=sys.stderr)
"""


def test_program_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.HELP)}$", printed, re.MULTILINE)


def test_help_of_any_command_imports_no_heavy_library() -> None:
    program = [sys.executable, "-c", PRINT_HELP_AND_HEAVY_IMPORTS, ",".join(HEAVY_LIBRARIES)]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    assert done.stderr == "[]\n"


def test_program_help_imports_nothing_that_packs() -> None:
    code = """
import sys
from shards_tools import cli
cli.run_command(["--help"])
print({"numpy", "pyarrow", "fsspec", "PIL"} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


def test_choices_equal_the_tables_of_the_modules_that_are_not_imported() -> None:
    assert tuple(FRAME_POLICIES) == common.POLICY_NAMES
    assert tuple(ENGINES) == make.ENGINE_NAMES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: no command. Choose one of synthetic, download, make, "),
        (["mak"], "error: unknown command 'mak'. Did you mean 'make'?"),
        (["push", "here"], "error: the following arguments are required: DST"),
        (["make", "raw", "out", "--size", "x"], "error: argument --size: "),
    ],
)
def test_main_bad_command_line_is_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.count("\n") == 1
