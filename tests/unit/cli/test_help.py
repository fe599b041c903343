"""The help of programs, commands and arguments."""

import argparse
import re
import shlex
from typing import Any

import pytest

from mlrec.cli import commands, main
from mlrec.config.arguments import Parser
from shards_tools import cli


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command line with --help prints."""
    with pytest.raises(SystemExit, match=r"^0$"):
        main.run_command([*words, "--help"])
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["--local_rank=1", "--help"]])
def test_program_help_lists_every_command(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run_command(words) == 0
    printed = capsys.readouterr().out
    for name, command in main.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.HELP)}$", printed, re.MULTILINE)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_command_help_describes_every_argument(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = help_of([name], capsys)
    assert printed.startswith(f"usage: mlrec {name} ")
    # argparse has no public list of a parser's options
    parser = Parser(prog=name)
    main.COMMANDS[name].add_arguments(parser)
    for flag in parser._option_string_actions:
        assert flag in printed


def parsers_of(program: commands.Program) -> dict[str, Parser]:
    """Return the parsers of all commands and their subcommands, by their name."""
    parsers = {}
    remaining_parsers = [program.parser(name) for name in program.commands]
    for parser in remaining_parsers:
        parsers[parser.prog] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                remaining_parsers += action.choices.values()
    return parsers


PROGRAMS = {"mlrec": main.PROGRAM, "mlrec-shards": cli.PROGRAM}
PARSERS = parsers_of(main.PROGRAM) | parsers_of(cli.PROGRAM)


def missing_from_help(action: argparse.Action) -> str:
    """Return what the help of an argument lacks; "" if it is complete."""
    text = action.help
    if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
        # argparse describes --help, and lists subcommands with a help of their own
        return ""
    if not text or text == argparse.SUPPRESS:
        return "description"
    if not action.required and "(default: " not in text:
        return "default"
    has_value = action.default not in (None, False, "", [])
    if has_value and str(action.default) not in text % vars(action):
        return f"default {action.default}"
    return ""


@pytest.mark.parametrize("name", PARSERS)
def test_help_of_every_argument_has_description_and_default(name: str) -> None:
    lacking = {}
    for action in PARSERS[name]._actions:
        missing = missing_from_help(action)
        if missing:
            lacking["/".join(action.option_strings) or action.dest] = missing
    assert lacking == {}


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, "description"),
        ({"help": argparse.SUPPRESS}, "description"),
        ({"help": "items"}, "default"),
        ({"help": "index", "action": "store_true"}, "default"),
        ({"help": "items (default: 2)", "default": 3}, "default 3"),
        ({"help": "items (default: %(default)s)", "default": 3}, ""),
        ({"help": "items", "required": True}, ""),
    ],
)
def test_missing_from_help_names_what_is_missing(options: dict[str, Any], missing: str) -> None:
    action = Parser().add_argument("--flag", **options)
    assert missing_from_help(action) == missing


@pytest.mark.parametrize("name", PARSERS)
def test_help_has_summary_description_and_examples_that_parse(name: str) -> None:
    parser = PARSERS[name]
    assert parser.description is not None
    summary, _, description = parser.description.partition("\n\n")
    assert "\n" not in summary
    assert summary.endswith(".")
    assert description.endswith(".")
    examples = re.findall(r"^  (mlrec.*)$", str(parser.epilog), re.MULTILINE)
    assert examples
    for example in examples:
        # a pipe shows how the output is used
        words = shlex.split(example.partition(" | ")[0])
        assert " ".join(words).startswith(name)
        PROGRAMS[words[0]].parser(words[1]).parse(words[2:])


def test_train_help_describes_every_form_and_section(capsys: pytest.CaptureFixture[str]) -> None:
    printed = help_of(["train"], capsys)
    for word in ("CONFIG", "key=value", "--dry-run[=RANKS]", "--json", "mlrec list keys"):
        assert word in printed
    for section in ("data", "item", "recommender", "loss", "optim", "zero", "train", "evaluate"):
        assert re.search(rf"^  {section} +\w", printed, re.MULTILINE), section


def test_train_without_words_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert not main.run_command(["train"])
    assert capsys.readouterr().out.startswith("usage: mlrec train CONFIG")
