"""Arguments and results that several commands share."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from mlrec.config.arguments import Parser, whole_number

if TYPE_CHECKING:
    from mlrec.data.format import DatasetInfo
    from shards_tools.pack.inputs import Inputs

# the names of FRAME_POLICIES, whose module imports numpy; a test compares them
POLICY_NAMES = ("middle", "uniform", "scenes", "title")


def add_raw(parser: Parser) -> None:
    """Add RAW, a folder of raw files."""
    parser.add_argument(
        "raw",
        metavar="RAW",
        help="folder or fsspec URL with raw files; shards_tools/README.md describes their layout",
    )


def add_titles(parser: Parser) -> None:
    """Add --titles, the table of titles."""
    parser.add_argument(
        "--titles",
        default="",
        metavar="FILE",
        help="table of items and titles, a file or fsspec URL: .csv, .tsv, .txt, .item or .parquet "
        "(default: the one in RAW, in English if there are several)",
    )


def add_media(parser: Parser) -> None:
    """Add --media, the form in which videos are stored."""
    parser.add_argument(
        "--media",
        choices=("frames", "clip"),
        default="frames",
        help="form of a packed video. frames: one JPEG per frame, the fastest to decode. "
        "clip: one MP4 of the frames, which is smaller (default: %(default)s)",
    )


def add_policy(parser: Parser) -> None:
    """Add --policy and --title-checkpoint, which decide on the frames of a video."""
    parser.add_argument(
        "--policy",
        choices=POLICY_NAMES,
        default="middle",
        help="which frames of a video are packed. middle: frames around its middle, --interval "
        "apart. uniform: evenly spaced frames of the whole video. scenes: of 64 "
        "candidates, frames that differ in color and together cover the video. title: of 64 "
        "candidates, the frames closest to the item's title, by the CLIP model of "
        "--title-checkpoint (default: %(default)s)",
    )
    add_title_checkpoint(parser)


def add_title_checkpoint(parser: Parser) -> None:
    """Add --title-checkpoint, the model of policy title."""
    parser.add_argument(
        "--title-checkpoint",
        default="",
        metavar="FOLDER",
        help="folder or fsspec URL of the CLIP model of --policy title, in Hugging Face's layout "
        "with safetensors (default: none)",
    )


def title_weights(options: argparse.Namespace) -> str:
    """Return the SHA-256 of the weights of --title-checkpoint; "" without one.

    Raises:
        ValueError: the policy needs no checkpoint, or the checkpoint cannot be used.
    """
    folder: str = options.title_checkpoint
    if not folder:
        return ""
    if options.policy != "title":
        raise ValueError(
            f"--title-checkpoint {folder} is for --policy title, but the policy is "
            f"{options.policy}. Add --policy title, or leave --title-checkpoint out"
        )
    # imports torch, which the other policies do not need
    from shards_tools.pack.clip import check_checkpoint

    return check_checkpoint(folder)


def add_workers(parser: Parser) -> None:
    """Add --workers, the number of processes."""
    # os.cpu_count is None on systems that do not say
    cores = os.cpu_count() or 1
    parser.add_argument(
        "--workers",
        type=whole_number(),
        default=cores,
        metavar="N",
        help="worker processes (default: the CPU cores, %(default)s)",
    )


def add_features(parser: Parser) -> None:
    """Add --features, files of vectors by name."""
    parser.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="vectors of the items: a .npy, .json, .pt or .parquet file, or a folder of mlrec "
        "extract, at any URL; once for each NAME. Training reads them as features/NAME "
        "(default: none)",
    )


def inputs_of(options: argparse.Namespace) -> Inputs:
    """Return the files that --titles, --title-checkpoint and --features name.

    Raises:
        ValueError: --features has another form than NAME=FILE.
    """
    # imported late, so that --help is fast
    from shards_tools.pack.features import parse_sources
    from shards_tools.pack.inputs import Inputs

    features = parse_sources(options.features)
    return Inputs(options.titles, options.title_checkpoint, features)


def document_of(url: str, info: DatasetInfo) -> dict[str, Any]:
    """Return the JSON document that describes a data set at `url`."""
    return {
        "url": url,
        "name": info.name,
        "fingerprint": info.fingerprint,
        "counts": info.counts,
        "sources": info.sources,
        "remarks": info.remarks,
        "files": info.num_files,
        "bytes": info.num_bytes,
    }
