"""The command mlrec-shards."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlrec.config.arguments import Parser, whole_number
from mlrec.data.format import FAILURES_FILE, DatasetInfo, read_dataset_info
from mlrec.data.media.frames import FRAME_POLICIES
from mlrec.runtime.ending import Stopped
from mlrec.runtime.entry_point import exit_with, run_main
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import megabytes, task
from mlrec.runtime.terminal import console, say
from shards_tools.make import make
from shards_tools.pack.engines import ENGINES
from shards_tools.pack.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: 0 when it is done, 1 for faults found or a failure, 2 for bad input, 130 for Ctrl-C.

    Without arguments this is the program itself, and ends the process.
    """
    code = run_main(_dispatch, sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        exit_with(code)
    return code


def _dispatch(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (KeyboardInterrupt, Stopped):
        say("stopped; the same command goes on from here", error=True)
        raise


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mlrec-shards",
        description="Pack raw MicroLens folders into WebDataset shards.",
        epilog="With --json all but synthetic print what they found as one JSON document on standard output, and nothing else "
        "there. How far a command is goes to standard error: a bar on a terminal, elsewhere a line now and then.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_synthetic(
        commands.add_parser(
            "synthetic", help="make up a raw folder whose best recommendations are known"
        )
    )
    _add_make(commands.add_parser("make", help="pack a raw folder; a run that was stopped goes on"))
    _add_push(
        commands.add_parser(
            "push",
            help="copy a data set to another place, verified; a push that was stopped goes on",
        )
    )
    _add_check(
        commands.add_parser("check", help="compare every byte of a data set with its checksums")
    )
    _add_repair(
        commands.add_parser(
            "repair", help="make the damaged files of a data set anew from its raw folder"
        )
    )
    _add_show(commands.add_parser("show", help="what a data set holds"))
    _add_bench(
        commands.add_parser(
            "bench", help="how fast a raw folder's videos are packed, beside decoding them bare"
        )
    )
    return parser


def _add_synthetic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--users", type=whole_number(), default=4000)
    parser.add_argument("--items", type=whole_number(), default=600)
    parser.add_argument("--seed", type=whole_number(), default=0)
    _add_workers(parser)
    parser.set_defaults(run=_synthetic)


def _synthetic(options: argparse.Namespace) -> int:
    from shards_tools.synthetic.make import make_synthetic

    made = make_synthetic(options.out, options.users, options.items, options.seed, options.workers)
    say(
        f"{options.out}: {options.users} users, {options.items} items"
        if made
        else f"{options.out} is complete already"
    )
    return 0


def _add_make(parser: argparse.ArgumentParser) -> None:
    default = {field.name: field.default for field in fields(Settings)}
    _add_raw(parser)
    parser.add_argument("url", metavar="OUT", help="where to pack it: a folder or any fsspec URL")
    parser.add_argument(
        "--name", default=default["name"], help="of the data set (default: that of the raw files)"
    )
    parser.add_argument(
        "--media",
        choices=("frames", "clip"),
        default=default["media"],
        help="JPEG frames or MP4 clips",
    )
    parser.add_argument(
        "--policy", choices=tuple(FRAME_POLICIES), default=default["policy"], help="which frames"
    )
    numbers = {
        "frames": "frames of a video",
        "interval": "distance of neighbouring frames (policy middle)",
        "size": "height and width in pixels",
        "quality": "of the JPEGs, 1 to 100",
        "items_per_shard": "items of an item shard",
        "users_per_shard": "users of a sequence shard",
        "keep_last": "interactions of a user that the split uses",
        "min_interactions": "users with fewer are left out",
    }
    for key, text in numbers.items():
        parser.add_argument(
            "--" + key.replace("_", "-"),
            type=whole_number(),
            default=default[key],
            help=f"{text} (default: {default[key]})",
        )
    parser.add_argument(
        "--max-failures",
        type=whole_number(),
        metavar="N",
        help="stop when more items than this fail (default: never)",
    )
    parser.add_argument(
        "--engine",
        choices=tuple(ENGINES),
        default="local",
        help="processes of this machine, or a ray cluster whose every node has mlrec and reaches RAW and OUT (default: local)",
    )
    parser.add_argument(
        "--address",
        help="of the ray cluster: auto, HOST:PORT or ray://HOST:PORT (default: ray starts on this machine)",
    )
    _add_workers(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what there is and how large it will be; write nothing",
    )
    add_json(parser)
    parser.set_defaults(run=_make)


def _make(options: argparse.Namespace) -> int:
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    if options.dry_run:
        from shards_tools.dry_run import describe, figures

        found = figures(options.raw, settings)
        if options.json:
            print_json(found)
        else:
            say("\n".join(describe(found)))
        return 0
    run = (
        options.workers,
        options.max_failures,
        console(error=True),
        options.engine,
        options.address,
    )
    info = make(options.raw, options.url, settings, *run)
    counts = info.counts
    if options.json:
        print_json(_made(options.url, info))
        return 0
    say(
        f"{options.url}: {counts['users']:,} users, {counts['interactions']:,} interactions, {counts['items']:,} items; "
        f"{sum(file.size for file in info.files) / 1e6:,.1f} MB in {len(info.files) + 1} files"
    )
    if counts["failed_items"]:
        say(
            f"{counted(counts['failed_items'], 'item')} failed: this cost {counted(counts['lost_interactions'], 'interaction')} "
            f"and {counted(counts['lost_users'], 'user')}; {FAILURES_FILE} has the reasons"
        )
    if counts["failed_covers"] or counts["failed_audio"]:
        say(
            f"{counts['failed_covers']:,} covers and {counts['failed_audio']:,} audio files failed; their items stay"
        )
    return 0


def _made(url: str, info: DatasetInfo) -> dict[str, Any]:
    """A data set that stands at the URL now, for programs."""
    files, size = len(info.files) + 1, sum(file.size for file in info.files)
    return {
        "url": url,
        "name": info.name,
        "fingerprint": info.fingerprint,
        "counts": info.counts,
        "files": files,
        "bytes": size,
    }


def _add_push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="URL of a data set")
    parser.add_argument(
        "target", metavar="DST", help="where to copy it: a folder or any fsspec URL"
    )
    add_json(parser)
    parser.set_defaults(run=_push)


def _push(options: argparse.Namespace) -> int:
    from shards_tools.push import push

    info = read_dataset_info(options.source)
    size = sum(file.size for file in info.files)
    with task("copying", size, megabytes) as under_way:
        for number, file in enumerate(push(options.source, options.target), start=1):
            under_way.advance(file.size, f"{number} of {len(info.files)} files, {file.path}")
    if options.json:
        print_json(_made(options.target, info))
    else:
        say(f"{options.target}: {len(info.files) + 1} files, {size / 1e6:,.1f} MB")
    return 0


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL")
    add_json(parser)
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from shards_tools.check import check

    faults = []
    for fault in check(options.url):
        faults.append(fault)
        if not options.json:
            say(fault, flush=True)
    if options.json:
        print_json({"url": options.url, "faults": faults})
    if faults:
        say(
            f"{options.url}: {counted(len(faults), 'fault')}. mlrec-shards repair RAW {options.url} packs files again that "
            "do not have their checksums; for any other fault, pack the data set again",
            error=True,
        )
        return 1
    if options.json:
        return 0
    info = read_dataset_info(options.url)
    say(
        f"{options.url}: {len(info.files)} files, {sum(file.size for file in info.files) / 1e6:,.1f} MB, no fault"
    )
    return 0


def _add_repair(parser: argparse.ArgumentParser) -> None:
    _add_raw(parser)
    parser.add_argument("url", metavar="URL", help="of the data set")
    _add_workers(parser)
    add_json(parser)
    parser.set_defaults(run=_repair)


def _repair(options: argparse.Namespace) -> int:
    from shards_tools.repair import repair

    repaired = repair(options.raw, options.url, options.workers, console(error=True))
    if options.json:
        print_json({"url": options.url, "repaired": repaired})
        return 0
    for fault in repaired.values():
        say(f"repaired {fault}")
    say(
        f"{options.url}: {len(repaired)} files repaired"
        if repaired
        else f"{options.url}: no file is damaged"
    )
    return 0


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL")
    add_json(parser)
    parser.add_argument(
        "--html",
        metavar="FILE.html",
        help="write a page as well: items with their frames, distributions, failures",
    )
    parser.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> int:
    from shards_tools.show import as_table, describe

    described = describe(options.url)
    if options.json:
        print_json(described)
    else:
        console().print(as_table(described))
    if options.html:
        from shards_tools.show_html import write_sheet

        write_sheet(options.url, options.html)
        say(f"page: {options.html}", error=True)
    return 0


def _add_bench(parser: argparse.ArgumentParser) -> None:
    _add_raw(parser)
    parser.add_argument(
        "--items",
        type=whole_number(),
        default=200,
        metavar="N",
        help="pack the first N videos (default: 200)",
    )
    parser.add_argument(
        "--media", choices=("frames", "clip"), default="frames", help="JPEG frames or MP4 clips"
    )
    add_json(parser)
    _add_workers(parser)
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    from mlrec.bench.result import show
    from shards_tools.bench import bench_packing

    show(
        bench_packing(options.raw, Settings(media=options.media), options.workers, options.items),
        options.json,
    )
    return 0


def _add_raw(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "raw", metavar="RAW", help="folder with MicroLens' raw files, or any fsspec URL of one"
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    cores = os.cpu_count() or 1
    parser.add_argument(
        "--workers",
        type=whole_number(),
        default=cores,
        metavar="N",
        help=f"processes (default: {cores}, one per core)",
    )


if __name__ == "__main__":
    main()
