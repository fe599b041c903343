"""Command lines: one sentence for what does not fit."""

import re
from pathlib import Path

import pytest

from mlrec.cli import main as cli
from mlrec.runtime.entry_point import run_main


def ended(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that was given bad input says."""
    assert run_main(cli._dispatch, arguments) == 2
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
            "--user: expected one argument; for a value that begins with a dash write --user=-x; see",
        ),
        (
            "recommend RUN --history -1,2 -k 3",
            "--history: expected one argument; for a value that begins with a dash write --history=-1,2",
        ),
        ("recommend RUN --user", "argument --user: expected one argument; see"),
        ("recommend --history 1", "the following arguments are required: RUN"),
        (
            "recommend RUN --history 1 -k 010",
            "argument -k: the value is '010'; it must be a whole number from 1 to 1000000",
        ),
        ("recommend RUN --history 1 -k 1_0", "argument -k: the value is '1_0'"),
        (
            "recommend RUN --history 1 -k 0",
            "argument -k: the value is 0; it must be a whole number from 1 to 1000000",
        ),
        (
            "recommend RUN --history 1 -k 99999999999999999999",
            "argument -k: the value is 99999999999999999999",
        ),
        (
            "recommend s3://AKIA:hunter2@bucket/x --history 1",
            "the URL s3://***@bucket/x holds credentials",
        ),
        ("export RUN", "the following arguments are required: OUT"),
        ("export RUN data.url=/x", "OUT is missing before data.url=/x; name a folder or URL"),
        ("export RUN OUT --idnex", "unrecognized arguments: --idnex"),
        ("export RUN s3://AKIA:hunter2@bucket/x", "the URL s3://***@bucket/x holds credentials"),
        ("extract --nonsense", "OUT is missing"),
        ("extract OUT --nonsense", "--nonsense is no option of this command"),
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
        ("sweep", "the following arguments are required: FILE"),
        ("train CONFIG.yaml --dry-run=010", "--dry-run=010 is not --dry-run=RANKS"),
        ("train CONFIG.yaml --dry-run=٣", "is not --dry-run=RANKS"),
        ("train CONFIG.yaml --dry-run=99999999999", "is not --dry-run=RANKS"),
    ],
)
def test_a_command_line_that_does_not_fit_ends_with_one_sentence(
    arguments: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ended(arguments.split(), capsys)
    assert words in said
    assert "hunter2" not in said
    assert list(tmp_path.iterdir()) == []


def test_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("recommend", "export", "evaluate", "sweep"):
        with pytest.raises(SystemExit, match="0"):
            cli.COMMANDS[command](["--help"])
        assert re.search("^usage: mlrec", capsys.readouterr().out)
