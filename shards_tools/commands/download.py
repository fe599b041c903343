"""mlrec-shards download."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from threading import Event

from mlrec.config.arguments import Parser, whole_number
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.printable import counted, printable
from mlrec.runtime.terminal import say
from mlrec.runtime.units import megabytes
from shards_tools.download.published import DATASETS, DEFAULT_PARTS, PARTS, Dataset, Part

HELP = "Download MicroLens-50K or 100K. The same command continues a download that was stopped."
DESCRIPTION = f"""\
Downloads the published files of a data set into DIR, which mlrec-shards make then packs. Parts of
files are resumed, sizes and published checksums are compared, zip archives are tested, and
DIR/download.json records the size and SHA-256 of each file. A second call downloads what is missing
or has changed.

The parts are {", ".join(PARTS)}. The videos of MicroLens-100K take about 480 GB. Where the server
has no index pages, the published names are tried.

This command is tested against local servers with the published layout, not against the server of
MicroLens. If the files have moved, pass their folder with --base-url."""
EXAMPLE = """\
mlrec-shards download microlens-50k data/MicroLens-50k --dry-run
mlrec-shards download microlens-50k data/MicroLens-50k --only pairs,titles,covers"""
MAX_SHOWN_FAILURES = 10


def add_arguments(parser: Parser) -> None:
    """Add the data set, the folder, and what to download."""
    parser.add_argument(
        "dataset",
        type=_dataset,
        metavar="DATASET",
        help=f"{' or '.join(DATASETS)}; the short names 50k and 100k are the same",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder to download into")
    parser.add_argument(
        "--only",
        type=_parts,
        default=",".join(DEFAULT_PARTS),
        metavar="PARTS",
        help="parts to download, with commas between them (default: %(default)s)",
    )
    places = " or ".join(dataset.base_url for dataset in DATASETS.values())
    parser.add_argument(
        "--base-url",
        default="",
        metavar="URL",
        help=f"http or https URL of the folder with the files (default: {places})",
    )
    parser.add_argument(
        "--workers",
        type=whole_number(1, 64),
        default=4,
        metavar="N",
        help="connections at the same time (default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="list files, sizes and free space, and download nothing (default: off)",
    )
    add_json(parser)


def _dataset(text: str) -> Dataset:
    name = text.lower()
    name = name if name.startswith("microlens-") else f"microlens-{name}"
    if name not in DATASETS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(DATASETS)}")
    return DATASETS[name]


def _parts(text: str) -> tuple[Part, ...]:
    names = text.split(",")
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in names)


def run(options: argparse.Namespace) -> int:
    """Show the plan, and download what is missing."""
    # imported late, so that --help is fast
    from mlrec import storage
    from mlrec.storage.folders import folder_lock
    from shards_tools.download.download import LOCK_FILE, download
    from shards_tools.download.http import check_url
    from shards_tools.download.manifest import read_manifest
    from shards_tools.download.plan import make_plan

    dataset: Dataset = options.dataset
    folder: Path = options.folder
    if not options.dry_run:
        storage.check_writable(folder, "DIR")
    stopping = Event()
    base_url = check_url(options.base_url or dataset.base_url, "--base-url")
    manifest = read_manifest(folder, dataset.name)
    plan = make_plan(dataset, base_url, folder, options.only, manifest, options.workers, stopping)
    if not options.json:
        for line in plan.describe():
            say(line)
        if options.dry_run:
            for file in plan.files:
                say(f"{plan.states[file.path]:<10} {megabytes(file.size):>14}  {file.path}")
    failures = plan.failures
    if not options.dry_run:
        plan.check_disk()
        busy = (
            f"Another process downloads into {folder}. Wait for its end, or choose another folder"
        )
        with folder_lock(folder, LOCK_FILE, busy):
            failures = download(plan, manifest, options.workers, stopping)
    if options.json:
        print_json(
            {
                "dataset": dataset.name,
                "base_url": base_url,
                "folder": str(folder),
                "files": len(plan.files),
                "bytes": plan.num_bytes,
                "missing_bytes": plan.missing_bytes,
                "free_bytes": plan.free_bytes,
                "left_out": plan.left_out,
                "failures": failures,
            }
        )
    elif failures:
        _say_failures(failures)
    elif not options.dry_run:
        place = shlex.quote(str(folder))
        say(f"{folder}: {counted(len(plan.files), 'file')}, complete")
        for archive in plan.split_archives:
            name = archive.path.removesuffix(".zip")
            say(
                f"{name}.zip is split, and its parts need as much space again when joined. Join "
                f"and remove them: cd {place} && zip -s 0 {name}.zip --out {name}_joined.zip && "
                f"rm {name}.z*"
            )
        say(f"next: mlrec-shards make {place} OUT")
    return 1 if failures else 0


def _say_failures(failures: dict[str, str]) -> None:
    """Show which files failed, and why."""
    for path, reason in list(failures.items())[:MAX_SHOWN_FAILURES]:
        say(f"{printable(path)}: {reason}", error=True)
    rest = len(failures) - MAX_SHOWN_FAILURES
    if rest > 0:
        say(f"and {rest:,} more; --json lists all", error=True)
    say(
        f"{counted(len(failures), 'file')} could not be downloaded; the same command tries again",
        error=True,
    )
