"""mlrec train."""

from __future__ import annotations

import argparse

from mlrec.config import section_docs
from mlrec.config.arguments import Parser, whole_number
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import say

HELP = "Train a run and evaluate its best checkpoint; the same command resumes after a stop."
DESCRIPTION = """\
Writes checkpoints, metrics and results to the run's folder, runs/NAME. A configuration is one or
more YAML files and settings key=value. --dry-run checks it without training."""
EXAMPLE = """\
mlrec train configs/experiment/quickstart_video.yaml name=slower optim.lr=3e-4"""

# more than any cluster has: a typing error
MAX_RANKS = 999_999
# value of --dry-run without =RANKS; counting GPUs needs torch
ALL_DEVICES = 0


def add_arguments(parser: Parser) -> None:
    """Add the files and settings of a run, and --dry-run."""
    # argparse would show [--dry-run [RANKS]], but RANKS follows only after "="
    parser.usage = "mlrec train CONFIG [CONFIG ...] [key=value ...] [--dry-run[=RANKS] [--json]]"
    parser.add_argument(
        "words",
        nargs="*",
        metavar="CONFIG | key=value",
        help="YAML files, such as configs/experiment/quickstart_id.yaml, of which later ones "
        "override earlier ones; key=value overrides all files, in any order",
    )
    parser.add_argument(
        "--dry-run",
        nargs="?",
        type=_ranks,
        metavar="RANKS",
        help="print what the run would do, read and hold in memory on RANKS ranks, without "
        "training (default: one rank per GPU of this machine); write --dry-run=8 for 8 ranks",
    )
    add_json(parser)
    parser.epilog = f"{parser.epilog}\n\n{_sections()}"
    # `mlrec train` alone explains itself
    parser.set_defaults(print_help=parser.print_help)


def _ranks(text: str) -> int:
    """Return the number of ranks, where no text stands for one per GPU."""
    return whole_number(1, MAX_RANKS)(text) if text else ALL_DEVICES


def _sections() -> str:
    """Return the help on settings, with one line per section."""
    docs = section_docs()
    width = max(map(len, docs))
    lines = [f"  {section:{width}}  {doc}" for section, doc in docs.items()]
    return "\n".join(
        [
            "sections of keys (train.duration is the key duration of the section train):",
            *lines,
            "",
            "mlrec list keys describes every key, with type and default.",
            "mlrec list encoders | recommenders | losses | fusions lists what names may be.",
            "On several GPUs run deepspeed --module mlrec.train CONFIG ..., "
            "or torchrun -m mlrec.train CONFIG ...",
        ]
    )


def run(options: argparse.Namespace) -> None:
    """Train, or describe the run.

    Raises:
        ValueError: --json stands without --dry-run, or the configuration does not fit.
    """
    if not options.words and options.dry_run is None:
        options.print_help()
        return
    if not options.words:
        raise ValueError("CONFIG is missing before --dry-run; see: mlrec train --help")
    if options.dry_run is not None:
        _dry_run(options)
        return
    if options.json:
        raise ValueError(
            "--json needs --dry-run: training prints no document; see: mlrec train --help"
        )
    from mlrec.config import load_arguments
    from mlrec.train.loop import train

    # under a launcher every rank comes here, and loads the files itself
    train(load_arguments(options.words))


def _dry_run(options: argparse.Namespace) -> None:
    import torch

    from mlrec.config import load_arguments
    from mlrec.train.dry_run import predict

    ranks = options.dry_run or max(1, torch.cuda.device_count())
    prediction = predict(load_arguments(options.words), ranks)
    if options.json:
        print_json(prediction.as_json())
    else:
        say("\n".join(prediction.describe()))
