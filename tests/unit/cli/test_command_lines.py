"""Command lines: one sentence for what does not fit."""

from pathlib import Path

import pytest

from mlrec.cli import main
from mlrec.runtime.entry_point import run_main


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error of a command line that does not fit."""
    assert run_main(main.run_command, arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "recommend RUN --user 1 --nonsense",
            "error: unrecognized arguments: --nonsense; see: mlrec recommend --help",
        ),
        (
            "recommend RUN",
            "one of the arguments --user --history is required; see: mlrec recommend --help",
        ),
        (
            "recommend RUN --user -x",
            "--user: expected one argument; for a value that begins with a dash write --user=-x",
        ),
        (
            "recommend RUN --history -1,2 -k 3",
            "expected one argument; for a value that begins with a dash write --history=-1,2",
        ),
        ("recommend RUN --user", "argument --user: expected one argument; see"),
        ("recommend --history 1", "the following arguments are required: RUN"),
        (
            "recommend RUN --history 1 -k 010",
            "argument -k: the value is '010'; it must be a whole number from 1 to 1000000",
        ),
        # numbers are as strict as in configurations
        ("recommend RUN --history 1 -k 1_0", "argument -k: the value is '1_0'"),
        (
            "recommend RUN --history 1 -k 0",
            "argument -k: the value is 0; it must be a whole number from 1 to 1000000",
        ),
        (
            "recommend RUN --history 1 -k 99999999999999999999",
            "argument -k: the value is 99999999999999999999",
        ),
        # messages show no credentials
        (
            "recommend s3://AKIA:hunter2@bucket/x --history 1",
            "the URL s3://***@bucket/x holds credentials",
        ),
        ("export RUN", "the following arguments are required: OUT"),
        ("export RUN data.url=/x", "OUT is missing before data.url=/x; name a folder or URL"),
        ("export RUN OUT --idnex", "unrecognized arguments: --idnex"),
        ("export RUN s3://AKIA:hunter2@bucket/x", "the URL s3://***@bucket/x holds credentials"),
        # the last word that is no setting is OUT
        ("extract --nonsense", "unrecognized arguments: --nonsense; see: mlrec extract --help"),
        ("extract OUT --nonsense", "unrecognized arguments: --nonsense; see: mlrec extract --help"),
        ("extract data.url=/x", "OUT is missing"),
        ("extract OUT ./other=1", "there is no configuration file OUT"),
        ("evaluate RUN --split all", "argument --split: invalid choice: 'all'"),
        ("evaluate RUN --splt test", "unrecognized arguments: --splt"),
        ("compare RUN", "the following arguments are required"),
        ("list nonsense", "argument table: invalid choice: 'nonsense'"),
        (
            "bench loader x --steps 1e3",
            "argument --steps: the value is 1e3; it must be a whole number",
        ),
        ("sweep", "the following arguments are required: FILE; see"),
        ("sweep --helpp", "unrecognized arguments: --helpp; did you mean --help?; see"),
        ("report RUN --tabel encoders", "--tabel encoders; did you mean --table?; see"),
        (
            "train CONFIG.yaml --dry-run=010",
            "--dry-run: the value is '010'; it must be a whole number from 1 to 999999",
        ),
        ("train CONFIG.yaml --dry-run=٣", "argument --dry-run: the value is '٣'"),
        ("train CONFIG.yaml --dry-run=99999999999", "argument --dry-run: the value is 99999999999"),
        ("train --dry-run", "CONFIG is missing before --dry-run"),
        # a word after --dry-run is a file, not the number of ranks
        ("train --dry-run CONFIG.yaml", "there is no configuration file CONFIG.yaml"),
        ("train CONFIG.yaml --json", "--json needs --dry-run"),
        ("train CONFIG.yaml --nonsense", "unrecognized arguments: --nonsense"),
        ("bench step CONFIG.yaml --stpes 1", "unrecognized arguments: --stpes 1"),
        ("bench", "the following arguments are required: BENCH"),
    ],
)
def test_command_line_that_does_not_fit_is_one_sentence(
    arguments: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    printed_error = error_of(arguments.split(), capsys)
    assert words in printed_error
    assert "hunter2" not in printed_error
    assert list(tmp_path.iterdir()) == []
