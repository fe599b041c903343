"""The command `mlrec`: each subcommand imports what it needs when it runs, so that `mlrec --help` is there at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from mlrec.runtime.entry_point import exit_with, run_main
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import say

HELP = """usage: mlrec COMMAND ...

commands:
  train CONFIG [CONFIG ...] [key=value ...]     train, evaluate the best checkpoint; the same command goes on after a stop;
                                                with --dry-run[=RANKS] say what that will do, read and hold in memory,
                                                with --json beside it as one document
  sweep FILE [key=value ...]                    the runs of configs/sweep/FILE one after the other; goes on after a stop
  evaluate RUN [--split test|validation]        full ranking with the run's best checkpoint
  export RUN OUT [--index]                      the best weights as plain safetensors, and an index of the items, to any URL
  compare RUN RUN                               is the difference of two runs more than chance, user by user
  extract [CONFIG ...] OUT [key=value ...]      frozen features of the whole catalogue by one encoder, to any URL
  recommend RUN --user ID | --history ID,ID     what a trained model recommends, with titles
  report [RUN ...] [--table T] [--out FILE]     a Markdown and an HTML page of runs beside each other, or beside the paper
  dashboard [--project P] [--out FILE]          the team's W&B dashboard: made in the project, or as a file without a key
  bench loader|step|prefix|eval|scale ...       what this machine reaches, beside its limits, and where the time goes
  list keys                                     every key of a configuration: its type, its default, what it means
  list encoders|recommenders|losses|fusions     the rows of a table

With --json all but train and dashboard print what they found as one JSON document on standard output, and nothing else there. How
far a command is goes to standard error: a bar on a terminal, elsewhere a line now and then.
On several GPUs: deepspeed --module mlrec.train CONFIG ..., or torchrun -m mlrec.train CONFIG ...; see launch/.
Data sets are packed with mlrec-shards."""


def _train(arguments: Sequence[str]) -> None:
    if any(argument.startswith("--dry-run") for argument in arguments):
        from mlrec.train import dry_run

        dry_run.main(arguments)
        return
    from mlrec.train import loop as train

    train.main(arguments)


def _sweep(arguments: Sequence[str]) -> None:
    from mlrec.train import sweep

    sweep.main(arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    from mlrec.evaluation import evaluate

    evaluate.main(arguments)


def _export(arguments: Sequence[str]) -> None:
    from mlrec.serving import export

    export.main(arguments)


def _compare(arguments: Sequence[str]) -> None:
    from mlrec.evaluation import compare

    compare.main(arguments)


def _extract(arguments: Sequence[str]) -> None:
    from mlrec.evaluation import extract

    extract.main(arguments)


def _recommend(arguments: Sequence[str]) -> None:
    from mlrec.serving import recommend

    recommend.main(arguments)


def _report(arguments: Sequence[str]) -> None:
    from mlrec.report import report

    report.main(arguments)


def _dashboard(arguments: Sequence[str]) -> None:
    from mlrec.report import dashboard

    dashboard.main(arguments)


def _bench(arguments: Sequence[str]) -> None:
    from mlrec import bench

    bench.main(arguments)


def _list(arguments: Sequence[str]) -> None:
    from mlrec.config import keys
    from mlrec.config.arguments import Parser
    from mlrec.models.recommenders.options import in_words, options_of
    from mlrec.models.registry import TABLES

    parser = Parser(
        prog="mlrec list", description="The keys of a configuration, or the rows of a table."
    )
    parser.add_argument("table", choices=("keys", *TABLES))
    add_json(parser)
    parsed = parser.parse_args(arguments)
    rows: dict[str, dict[str, Any]]
    if parsed.table == "keys":
        rows = {key: asdict(row) for key, row in keys().items()}
    elif parsed.table == "encoders":
        shown = ("modality", "frames", "size", "width", "checkpoint", "licence", "paper")
        rows = {
            name: {key: getattr(row, key) for key in shown}
            for name, row in TABLES["encoders"].items()
        }
    else:
        rows = {
            name: {"description": (row.__doc__ or "-").strip().splitlines()[0]}
            for name, row in TABLES[parsed.table].items()
        }
    if parsed.table == "recommenders":
        rows = {
            name: {**row, "options": options_of(TABLES["recommenders"][name])}
            for name, row in rows.items()
        }
    if parsed.json:
        print_json(rows)
        return
    widest = max(24, *map(len, rows))
    for name, row in rows.items():
        size = f"{row['frames']} frames of {row['size']} x {row['size']}" if row.get("size") else ""
        kind = f"{row['type']} = {json.dumps(row['default'])}" if "type" in row else ""
        told = (row.get(key) for key in ("checkpoint", "licence", "paper", "description"))
        parts = (f"{name:{widest}}", kind, size, *told, in_words(row.get("options", {})))
        say("  ".join(str(part) for part in parts if part))


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": _train,
    "sweep": _sweep,
    "evaluate": _evaluate,
    "export": _export,
    "compare": _compare,
    "extract": _extract,
    "recommend": _recommend,
    "report": _report,
    "dashboard": _dashboard,
    "bench": _bench,
    "list": _list,
}


def _dispatch(arguments: Sequence[str]) -> None:
    from mlrec import __version__

    if not arguments or arguments[0] in ("-h", "--help"):
        say(HELP)
    elif arguments[0] == "--version":
        say(__version__)
    elif arguments[0] in COMMANDS:
        COMMANDS[arguments[0]](arguments[1:])
    else:
        raise ValueError(f"unknown command {arguments[0]!r}; mlrec knows {', '.join(COMMANDS)}")


def main() -> None:
    """Entry point of the command `mlrec`."""
    exit_with(run_main(_dispatch, sys.argv[1:]))
