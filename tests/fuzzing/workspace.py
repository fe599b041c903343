"""A small healthy workspace with every kind of file that mlrec reads, by relative paths."""

from __future__ import annotations

import io
import os
import re
import shutil
import wave
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np

NUM_USERS, NUM_ITEMS = 20, 12
SIZE = 32

TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
VIDEOMAE = {**TRANSFORMER, "image_size": SIZE, "patch_size": 16, "num_frames": 2, "tubelet_size": 2}
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "clip",
    "red",
    "blue",
    "ball",
    "a",
    "b",
    "##s",
]

RUN = """\
base: [base.yaml]
name: id
recommender: {width: 8, options: {dropout: 0.0}}
train: {duration: 4 steps, global_batch: 10, log_every: 1 steps, \
save_every: 2 steps, evaluate_every: 2 steps}
"""
BASE = """\
run_dir: runs/{name}
data: {url: data, cache_dir: cache, num_workers: 0}
item: {chunk: 8}
seed: 3
"""
VIDEO = [
    "name=video",
    "item.encoders=[video/tiny]",
    f"item.options={{video/tiny: {{size: {SIZE}, width: 16}}}}",
]


def build(root: Path) -> None:
    """Make the workspace at `root`; takes some seconds. The working folder is `root` afterwards."""
    root.mkdir(parents=True)
    os.chdir(root)
    _write_raw(Path("raw"))
    _pack()
    _write_configs(Path("config"))
    _write_pretrained(Path("pretrained"))
    _train()


def pack_in_this_process() -> None:
    """Make the packer work without worker processes, which take longer than a dozen items."""
    from shards_tools.pack import engines
    from shards_tools.repair import records

    def map_here(
        function: Callable[[Any], Any], jobs: Iterable[Any], *rest: object, **more: object
    ) -> Generator[Any, None, None]:
        for job in jobs:
            yield function(job)

    for module in (engines, records):
        module.map_ordered = map_here  # type: ignore[attr-defined]


def _call(main: Callable[[Any], Any], *words: str) -> None:
    code = main(list(words))
    assert not code, f"{words} ended with {code}"


def _write_raw(raw: Path) -> None:
    from shards_tools.synthetic.media import Look, cover_bytes, video_bytes

    rng = np.random.default_rng(0)
    for folder in ("videos", "covers", "audios"):
        (raw / f"tiny_{folder}").mkdir(parents=True)
    for item in range(1, NUM_ITEMS + 1):
        look = Look(hue=item / 2, shape=item % 4, texture=item // 4 % 4, direction=item / 3)
        (raw / "tiny_videos" / f"{item}.mp4").write_bytes(video_bytes(look, rng))
        (raw / "tiny_covers" / f"{item}.jpg").write_bytes(cover_bytes(look, rng))
        (raw / "tiny_audios" / f"{item}.wav").write_bytes(_wav(rng) if item > 1 else b"no sound")
    runs = [rng.permutation(NUM_ITEMS)[: 6 + user % 4] + 1 for user in range(NUM_USERS)]
    pairs = [
        f"{user},{item},{time}\n"
        for user, run in enumerate(runs, start=1)
        for time, item in enumerate(run)
    ]
    (raw / "tiny_pairs.csv").write_text("".join(["user,item,timestamp\n", *pairs]))
    rows = [
        f"{item},a {'red' if item % 2 else 'blue'} ball {item}\n"
        for item in range(1, NUM_ITEMS + 1)
    ]
    (raw / "tiny_titles.csv").write_text("".join(["item,title\n", *rows]))
    likes = [f"{item}\t{item * 10}\t{item * 100}\n" for item in range(1, NUM_ITEMS + 1)]
    (raw / "tiny_likes_and_views.txt").write_text("".join(likes))
    for path in raw.rglob("*"):  # the time is a part of what identifies a raw folder
        os.utime(path, (1e9, 1e9))


def _wav(rng: np.random.Generator) -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(rng.integers(-9999, 9999, size=1600, dtype=np.int16).tobytes())
    return sink.getvalue()


PACKED = [
    "--size",
    str(SIZE),
    "--frames",
    "2",
    "--items-per-shard",
    "8",
    "--users-per-shard",
    "12",
    "--workers",
    "1",
]


def _pack() -> None:
    from shards_tools import cli, make

    _call(cli.main, "make", "raw", "data", *PACKED)
    _call(cli.main, "make", "raw", "clips", "--media", "clip", *PACKED)
    # raw/ without media packs in milliseconds: for mutations of the tables
    shutil.copytree(
        "raw",
        "tables",
        ignore=lambda folder, names: [
            name for name in names if name.endswith("s") and "tiny_" in name
        ],
    )
    finish = make._finish
    try:  # stopped when all shards are packed
        make._finish = lambda *arguments: (_ for _ in ()).throw(RuntimeError("stopped"))
        assert cli.main(["make", "raw", "half", *PACKED]) == 1
    finally:
        make._finish = finish


def _write_configs(folder: Path) -> None:
    folder.mkdir()
    (folder / "run.yaml").write_text(RUN)
    (folder / "base.yaml").write_text(BASE)


def _write_pretrained(folder: Path) -> None:
    import torch
    from transformers import (
        BertConfig,
        BertModel,
        BertTokenizerFast,
        VideoMAEConfig,
        VideoMAEImageProcessor,
        VideoMAEModel,
    )

    torch.manual_seed(0)
    VideoMAEModel(VideoMAEConfig(**VIDEOMAE)).save_pretrained(folder / "videomae")
    VideoMAEImageProcessor(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
    ).save_pretrained(folder / "videomae")
    (folder / "bert").mkdir()
    (folder / "bert" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertModel(
        BertConfig(**TRANSFORMER, vocab_size=len(WORDS), max_position_embeddings=16)
    ).save_pretrained(folder / "bert")
    BertTokenizerFast.from_pretrained(folder / "bert").save_pretrained(folder / "bert")


def _train() -> None:
    from mlrec import storage
    from mlrec.cli.main import run_command
    from mlrec.data.format import read_dataset_info

    _call(run_command, "train", "config/run.yaml")
    _call(run_command, "train", "config/run.yaml", *VIDEO)
    Path("runs/id/failures.jsonl").write_text(
        '{"item": 3, "reason": "the file is cut short", "step": 2}\n'
    )
    _call(run_command, "export", "runs/id", "export", "--index")
    _call(run_command, "extract", "config/base.yaml", "features", *VIDEO)
    Path("cache/items").mkdir(exist_ok=True)
    for shard in read_dataset_info("data").shards("items"):
        storage.download(
            f"data/{shard.path}", Path(f"cache/items/{shard.sha256}.tar"), shard.sha256
        )
    record = Path("runs/id/run.json")
    text = re.sub(
        r'"started": "[^"]*"', '"started": "2026-01-01T00:00:00+00:00"', record.read_text()
    )
    record.write_text(re.sub(r'"hours": [^,]*', '"hours": 0.0', text))
