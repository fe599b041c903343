"""mlrec-shards make."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from mlrec.config.arguments import Parser, whole_number
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import console, say
from shards_tools.commands.common import (
    add_features,
    add_media,
    add_policy,
    add_raw,
    add_titles,
    add_workers,
    document_of,
    inputs_of,
    title_weights,
)

if TYPE_CHECKING:
    from shards_tools.pack.settings import Settings

HELP = "Pack a raw folder into a data set. The same command continues a run that was stopped."
DESCRIPTION = """\
Reads interactions, titles, videos, covers and audio from RAW. Writes shards of items and of users'
sequences, with checksums, to OUT. --dry-run shows what RAW holds, and how large OUT will be."""
EXAMPLE = """\
mlrec-shards make data/MicroLens-50k s3://bucket/microlens-50k --policy uniform --frames 16"""

# the names of ENGINES, whose module imports what packs items; a test compares them
ENGINE_NAMES = ("local", "ray")

NUMBERS = {
    "frames": "frames per video; encoders read 4 to 64 (mlrec list encoders), and frames repeat if "
    "there are fewer",
    "interval": "source frames from one packed frame to the next, with --policy middle: 1 packs "
    "neighbors, 30 one frame per second of a video of 30 frames per second",
    "size": "height and width of frames, clips and covers in pixels",
    "quality": "JPEG quality, from 1 to 100",
    "items_per_shard": "items per item shard",
    "users_per_shard": "users per sequence shard",
    "keep_last": "most recent interactions of each user that training and evaluation use",
    "min_interactions": "least number of interactions; users with fewer are left out",
    "min_item_interactions": "least number of an item's interactions; items with fewer are left "
    "out, then users again, until all have enough",
}
"""Meaning of each setting that is a number, by its field of Settings."""


def add_arguments(parser: Parser) -> None:
    """Add the raw folder, the place of the data set, and how it is packed."""
    add_raw(parser)
    parser.add_argument(
        "url", metavar="OUT", help="folder or fsspec URL that the data set is written to"
    )
    _add_settings(parser)
    add_titles(parser)
    add_features(parser)
    parser.add_argument(
        "--max-failures",
        type=whole_number(),
        metavar="N",
        help="stop when more than N items fail (default: never)",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINE_NAMES,
        default="local",
        help="local: processes of this machine. ray: a Ray cluster whose nodes all have mlrec and "
        "reach RAW and OUT (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="address of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT "
        "(default: start Ray on this machine)",
    )
    add_workers(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="report what RAW holds and how large the data set will be, and write nothing "
        "(default: off)",
    )
    add_json(parser)


def _add_settings(parser: Parser) -> None:
    """Add an option for each field of Settings."""
    # imported late, so that the program's help is fast
    from shards_tools.pack.settings import OPTIONAL_PARTS, Settings

    # defaults have one place, the fields of Settings
    defaults = Settings()
    parser.add_argument(
        "--name", default="", help="name of the data set (default: that of the raw files)"
    )
    add_media(parser)
    add_policy(parser)
    parser.add_argument(
        "--repeats",
        choices=("keep", "first", "last"),
        default=defaults.repeats,
        help="what becomes of items that a user has more than once: keep all, or only the user's "
        "first or last interaction with each (default: %(default)s)",
    )
    parser.add_argument(
        "--without",
        default=defaults.without,
        metavar="PART,...",
        help=f"leave parts of RAW out: {', '.join(OPTIONAL_PARTS)} (default: none)",
    )
    parser.add_argument(
        "--split",
        choices=("leave_one_out", "time"),
        default=defaults.split,
        help="leave_one_out: a user's last interaction is for test, the one before for validation. "
        "time: cut-offs for all users; needs interactions with times (default: %(default)s)",
    )
    for key, share in (("validation", "80 %%"), ("test", "90 %%")):
        parser.add_argument(
            f"--{key}-from",
            default="",
            metavar="DATE",
            help=f"cut-off at which {key} begins, with --split time: a date such as 2023-07-01 "
            f"(UTC), or a number (default: after {share} of the interactions)",
        )
    # the types check for whole numbers; Settings checks the ranges and names the flag
    for key, meaning in NUMBERS.items():
        parser.add_argument(
            "--" + key.replace("_", "-"),
            type=whole_number(),
            default=getattr(defaults, key),
            metavar="N",
            help=f"{meaning} (default: %(default)s)",
        )


def run(options: argparse.Namespace) -> None:
    """Pack and print what the data set holds, or only look with --dry-run."""
    # imported late, so that the program's help is fast
    from shards_tools.pack.settings import Settings, sorted_parts

    options.title_weights = title_weights(options)
    # make computes them: a dry run reads the files, and needs no digests
    options.feature_digests = ""
    values = {field.name: getattr(options, field.name) for field in fields(Settings)}
    values["without"] = sorted_parts(options.without)
    settings = Settings(**values)
    if options.dry_run:
        _dry_run(options, settings)
        return
    from shards_tools.make import make
    from shards_tools.pack.reasons import read_reasons
    from shards_tools.show.summary import summary_lines

    info = make(
        options.raw,
        options.url,
        settings,
        options.workers,
        options.max_failures,
        console(error=True),
        options.engine,
        options.address,
        inputs_of(options),
    )
    reasons = read_reasons(options.url, info)
    if options.json:
        failures = [asdict(reason) for reason in reasons]
        print_json({**document_of(options.url, info), "failures": failures})
    else:
        say("\n".join(summary_lines(options.url, info, reasons)))


def _dry_run(options: argparse.Namespace, settings: Settings) -> None:
    from shards_tools.dry_run import describe, figures

    measured = figures(options.raw, settings, inputs_of(options))
    if options.json:
        print_json(measured)
    else:
        say("\n".join(describe(measured)))
