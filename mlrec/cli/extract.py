"""mlrec extract."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from mlrec.config import is_setting, load_arguments
from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.printable import counted
from mlrec.runtime.terminal import say

if TYPE_CHECKING:
    from mlrec.data.features.info import FeaturesInfo

HELP = "Extract frozen features of the whole catalogue with one encoder; the same command resumes."
DESCRIPTION = """\
Writes one vector per item, or with --stages the states of several stages. Training reads them with
the encoder features/NAME. Under a launcher all ranks take part."""
EXAMPLE = """\
mlrec extract configs/item/videomae.yaml features/videomae data.url=URL"""


class Job(NamedTuple):
    """Parts of the command line."""

    out: str
    """Folder or URL of the features."""
    settings: list[str]
    """Configuration files and key=value."""


def add_arguments(parser: Parser) -> None:
    """Add the files, the place of the features, and the settings."""
    parser.usage = (
        "mlrec extract [CONFIG ...] OUT [--stages all|LIST] [--pca WIDTH] [key=value ...] [--json]"
    )
    # which words are CONFIG, OUT and key=value depends on the words: `job_of` tells
    parser.add_argument(
        "words",
        nargs="*",
        metavar="CONFIG | OUT | key=value",
        help="CONFIG: YAML files as of mlrec train, such as configs/item/videomae.yaml. OUT: "
        "folder or URL for the features, the last word that is not key=value. key=value: settings "
        "that override those of the files. Files or settings name data.url and item.encoders",
    )
    parser.add_argument(
        "--stages",
        default="",
        metavar="all|LIST",
        help="store the mean hidden states of all stages of the encoder, or of some, such as "
        "0,3,6, in float16; a run pools them with item.options.features/vectors.pooling "
        "(default: the encoder's vector alone)",
    )
    parser.add_argument(
        "--pca",
        type=int,
        metavar="WIDTH",
        help="reduce the states of all stages together to this many principal components, fitted "
        "to the items of the training split (default: no reduction)",
    )
    add_json(parser)
    parser.epilog = f"""{parser.epilog}

A run reads the features with item.encoders=[features/vectors] and
item.options.features/vectors.checkpoint=OUT. mlrec list keys describes all keys."""


def job_of(words: list[str]) -> Job:
    """Split the words into OUT and the settings.

    Raises:
        ValueError: OUT is missing.
    """
    # OUT is the last word that is not key=value, so that settings may stand on both sides of it
    places = [place for place, word in enumerate(words) if not is_setting(word)]
    last = places[-1] if places else None
    # a YAML file in this place is a configuration whose OUT was forgotten
    if last is None or words[last].endswith((".yaml", ".yml")):
        after = "" if last is None else f" after {words[last]}"
        raise ValueError(
            f"OUT is missing{after}: name the folder or URL that the features go to; "
            "see: mlrec extract --help"
        )
    return Job(words[last], words[:last] + words[last + 1 :])


def _facts(out: str, info: FeaturesInfo) -> dict[str, object]:
    """Return the document of --json."""
    facts: dict[str, object] = {"out": out, "items": info.count, "width": info.width}
    if info.rows:
        facts["rows"] = list(info.rows)
    if info.pca:
        facts["rows_reduced"] = list(info.pca.rows)
        facts["explained_variance"] = info.pca.explained_variance
    return facts


def _sentence(out: str, info: FeaturesInfo) -> str:
    width = f"{info.width} wide"
    if info.rows:
        width = f"{counted(len(info.rows), 'vector')} each, {width}"
    if info.pca:
        width += (
            f": principal components of {counted(len(info.pca.rows), 'stage')}, which explain "
            f"{100 * info.pca.explained_variance:.1f} % of the variance of the items in training"
        )
    return f"{out}: features of {counted(info.count, 'item')}, {width}"


def run(options: argparse.Namespace) -> None:
    """Extract on all ranks; rank 0 prints what is written."""
    from mlrec.evaluation.extract import extract
    from mlrec.evaluation.stage_vectors import StageOptions
    from mlrec.runtime.distributed import start_world, stop_world

    job = job_of(options.words)
    stages = StageOptions(options.stages, options.pca)
    config = load_arguments(job.settings)
    # collective: every rank encodes its share of the items; rank 0 joins them and prints
    world = start_world()
    info = extract(config, job.out, world, stages)
    if world.is_main and options.json:
        print_json(_facts(job.out, info))
    elif world.is_main:
        say(_sentence(job.out, info))
    stop_world()
