"""The real commands and functions that read the workspace, and digests of what they read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from fuzzing.workspace import PACKED, SIZE, VIDEO
from mlrec import config
from mlrec.cli import main as cli
from mlrec.config import DataConfig
from mlrec.data.catalogue_pass import pass_of_rank, ranked_items, stream_catalogue
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import Data, StepDataset, open_data
from mlrec.models.building import build_model
from mlrec.models.encoders import ENCODERS, EncoderContext
from mlrec.runs import checkpoint
from mlrec.runtime.distributed import World
from mlrec.serving import ServedModel
from shards_tools import cli as shards

Facts = dict[str, str]
"""Digests by name; "quarantined N" tells why an item was left out."""

INPUTS = [
    InputSpec(Modality.VIDEO, frames=2, size=SIZE),
    InputSpec(Modality.COVER, size=SIZE),
    InputSpec(Modality.AUDIO, length=400),
    InputSpec(Modality.TITLE, length=24),
]
ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))


def digest(*values: Any) -> str:
    """SHA-256 of arrays, tensors, or what JSON holds; numbers must be finite."""
    checksum = hashlib.sha256()
    for value in values:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            assert value.dtype.kind != "f" or np.isfinite(value).all(), "a number is not finite"
            checksum.update(f"{value.dtype} {value.shape}".encode())
            checksum.update(np.ascontiguousarray(value).tobytes())
        else:
            checksum.update(
                json.dumps(value, sort_keys=True, default=str, allow_nan=False).encode()
            )
    return checksum.hexdigest()[:16]


def digest_of_tree(folder: Path, ignored: tuple[str, ...] = ()) -> dict[str, str]:
    """The digest of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in files
        if path.name not in ignored
    }


def load(url: str) -> Facts:
    """Open the data set and take everything from it that training and ranking do."""
    data = open_data(DataConfig(url=url, cache_dir="cache", num_workers=0))
    return {**_sequences(data), **_catalogue(data), **_items(data)}


def _sequences(data: Data) -> Facts:
    table = data.sequences
    users_B = np.arange(table.num_users)
    assert table.items.min() >= 1 and table.items.max() <= data.catalogue.size, (
        "sequences name items beyond the catalogue"
    )
    views = [
        table.train(users_B),
        *(table.target(users_B, split) for split in ("validation", "test")),
    ]
    return {
        "sequences": digest(
            table.items, table.offsets, table.users, *views, table.seen(users_B, "test")
        )
    }


def _catalogue(data: Data) -> Facts:
    catalogue = data.catalogue
    titles = [catalogue.title(item) for item in range(1, catalogue.size + 1)]
    raw_ids = catalogue.table["raw_id"].to_pylist()
    assert len(set(raw_ids)) == len(raw_ids), "raw ids occur twice"
    return {"catalogue": digest(catalogue.popularity_N1, catalogue.ok_N1, titles, raw_ids)}


def _items(data: Data) -> Facts:
    media = data.info.media
    held = {
        Modality.VIDEO: media.kind != "none",
        Modality.COVER: media.has_cover,
        Modality.AUDIO: media.has_audio,
    }
    inputs = [spec for spec in INPUTS if held.get(spec.modality, True)]
    plan = Plan(data.sequences, 0, 10, data.owners(10, (1,)))
    dataset = StepDataset(data, plan, 0, inputs, local_negatives=False)
    facts: Facts = {}
    for step in range(plan.steps_per_epoch):
        batch = dataset[step]
        _add_items(
            facts, "step", batch.items_O.tolist(), batch.media, batch.valid_O, batch.bad_items
        )
        facts[f"step {step}"] = digest(
            batch.users_B, batch.items_U, batch.log_p_U, batch.inputs_BL, batch.targets_BL
        )
    share = pass_of_rank(data, inputs, 8, 0, (len(ranked_items(data)),))
    for chunk in stream_catalogue(share, 0, pin_memory=False):
        items = share.items[chunk.start : chunk.start + len(chunk.valid_n)].tolist()
        _add_items(facts, "pass", items, chunk.media, chunk.valid_n, chunk.bad_items)
    return facts


def _add_items(
    facts: Facts,
    kind: str,
    items: list[int],
    media: Mapping[InputSpec, torch.Tensor],
    valid_n: torch.Tensor,
    bad: dict[int, str],
) -> None:
    for row, item in enumerate(items):
        if valid_n[row]:
            facts[f"item {item} in {kind}"] = digest(*(media[spec][row] for spec in media))
        else:
            facts[f"quarantined {item} in {kind}"] = bad[item]


def load_remote() -> Facts:
    """As load, of a data set on remote storage whose shards are cached."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in Path("data").rglob("*"):
        if path.is_file() and "_work" not in path.parts:
            memory.pipe(f"/{path}", path.read_bytes())
    return load("memory://data")


def check(url: str) -> Facts:
    """mlrec-shards check; its faults are sentences."""
    return {"check": str(shards.run_command(["check", url]))}


def push(url: str) -> Facts:
    """Run mlrec-shards push into an empty folder, where it may write nothing else."""
    Path("pushed").mkdir()
    try:
        assert not shards.run_command(["push", url, "pushed/copy"])
    finally:
        assert {path.name for path in Path("pushed").iterdir()} <= {"copy"}, (
            "push writes beside its target"
        )
    return {
        "pushed": digest(
            digest_of_tree(Path("pushed/copy"), ("settings.json", "lock", "push.json"))
        )
    }


def show(url: str) -> Facts:
    """mlrec-shards show, with its page: it shows what it finds, and leaves checksums to check."""
    assert not shards.run_command(["show", url, "--html", "page.html"])
    _page("page.html")
    return {}


def _page(path: str) -> str:
    text = Path(path).read_text()
    assert "<script>1<" not in text and "\x1b" not in text, "a page holds what a file told it to"
    return text


def rank(run: str) -> Facts:
    """mlrec evaluate."""
    cli.run_command(["evaluate", run, "--json"])
    results = json.loads(Path(run, "results.json").read_text())
    return {
        "ranking": digest(results["metrics"], results["step"]),
        "ranks": digest(np.load(f"{run}/ranks.npy")),
    }


def recommend_to(run: str, *whom: str) -> Facts:
    """mlrec recommend."""
    cli.run_command(["recommend", run, *whom, "-k", "4"])
    return {}


def resume(run: str) -> Facts:
    """Train on from the newest checkpoint: losses and weights must be what they would have been."""
    cli.run_command(["train", f"{run}/config.yaml", "train.duration=6 steps"])
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if line["step"] > 4 and "train/loss" in line]
    path = checkpoint.newest(Path(run))
    assert path is not None
    tensors = {name: digest(value) for name, value in checkpoint.read_tensors(path, "")}
    return {"losses": digest(losses), "tensors": digest(tensors)}


def export_run(run: str) -> Facts:
    """mlrec export, which copies the weights."""
    cli.run_command(["export", run, "exported"])
    weights = load_file(
        "exported/model.safetensors"
    )  # the order of its header changes from time to time
    return {"exported": digest({name: digest(value) for name, value in weights.items()})}


def report_runs(*runs: str) -> Facts:
    """mlrec report and mlrec compare: what they print need not be the same, but is harmless."""
    cli.run_command(["report", *runs, "--out", "report.html"])
    _page("report.html")
    cli.run_command(["compare", runs[0], runs[-1]])
    return {}


def serve() -> Facts:
    """A service's answers, and mlrec recommend of an export."""
    served = ServedModel("export")
    answers = [
        served.recommend([raw_id], 5) for raw_id in ("1", "7", "12") if raw_id in served.raw_ids_N
    ]
    answers.append(served.recommend(served.raw_ids_N[:3], 4))
    for raw_ids, scores in answers:
        assert np.isfinite(scores).all() and len(set(raw_ids)) == len(raw_ids), (
            "scores are not finite, or items occur twice"
        )
    cli.run_command(["recommend", "export", "--history", served.raw_ids_N[0], "-k", "3"])
    return {
        "answers": digest([raw_ids for raw_ids, _ in answers], *(scores for _, scores in answers))
    }


def read_features(path: str) -> Facts:
    """The encoder of extracted features."""
    settings = [
        "item.encoders=[features/vectors]",
        f"item.options={{features/vectors: {{checkpoint: {path}}}}}",
    ]
    loaded = config.load(["config/base.yaml"], settings)
    model = build_model(loaded, open_data(loaded.data), 0)
    return {"features": digest(model.tower.encoders[0](torch.arange(13)))}


def extract_again() -> Facts:
    """mlrec extract on a folder of features that is complete, or else is encoded again."""
    cli.run_command(["extract", "config/base.yaml", "features", *VIDEO])
    return {"extracted": digest(digest_of_tree(Path("features"), ("settings.json",)))}


def encode(name: str, folder: str) -> Facts:
    """A pretrained encoder, built and run."""
    row = ENCODERS[name].changed(
        name,
        {"checkpoint": folder, "length": 16} if name.startswith("text") else {"checkpoint": folder},
    )
    encoder = row.build(row, EncoderContext(8, 12, False, name)).eval()
    spec = encoder.spec
    generator = torch.Generator().manual_seed(0)
    if spec.modality is Modality.VIDEO:
        media = torch.randint(
            256, (2, spec.frames, spec.size, spec.size, 3), dtype=torch.uint8, generator=generator
        )
    else:
        from mlrec.data.titles import tokenize

        media = torch.from_numpy(
            np.stack(
                [tokenize(text, spec.length, spec.tokenizer) for text in ("a red ball", "clips")]
            )
        )
    with torch.no_grad():
        vectors = encoder(media)
    # weights may be finite and overflow; who stores vectors refuses those
    return {"vectors": digest(vectors) if torch.isfinite(vectors).all() else "not finite"}


def load_config() -> Facts:
    """A configuration with its base files, and a dry run."""
    loaded = config.load(["config/run.yaml"])
    assert "${" not in str(asdict(loaded)) and str(Path.home()) not in str(asdict(loaded)), (
        "an interpolation was resolved"
    )
    config.save(loaded, Path("saved.yaml"))
    assert config.load(["saved.yaml"]) == loaded, "a saved configuration differs from its own"
    return {}


def dry_run() -> Facts:
    """mlrec train --dry-run."""
    cli.run_command(["train", "config/run.yaml", "--dry-run=2"])
    return {}


def make(raw: str, out: str) -> Facts:
    """mlrec-shards make, which goes on where a packer stopped."""
    assert not shards.run_command(["make", raw, out, *PACKED])
    return {"packed": digest(digest_of_tree(Path(out), ("settings.json", "lock")))}


def repair() -> Facts:
    """mlrec-shards repair from a raw folder."""
    assert not shards.run_command(["repair", "raw", "data", "--workers", "1"])
    return {"packed": digest(digest_of_tree(Path("data"), ("settings.json", "lock")))}


OPERATIONS: dict[str, Callable[[], Facts]] = {
    "check": lambda: check("data"),
    "load": lambda: load("data"),
    "push": lambda: push("data"),
    "show": lambda: show("data"),
    "repair": repair,
    "check clips": lambda: check("clips"),
    "load clips": lambda: load("clips"),
    "load remote": load_remote,
    "evaluate": lambda: rank("runs/id"),
    "recommend": lambda: recommend_to("runs/id", "--user", "2"),
    "resume": lambda: resume("runs/id"),
    "export": lambda: export_run("runs/id"),
    "report": lambda: report_runs("runs/id", "runs/video"),
    "serve": serve,
    "features": lambda: read_features("features"),
    "features.parquet": lambda: read_features("features/features.parquet"),
    "extract": extract_again,
    "encode video": lambda: encode("video/huggingface", "pretrained/videomae"),
    "encode title": lambda: encode("text/huggingface", "pretrained/bert"),
    "config": load_config,
    "dry run": dry_run,
    "make on": lambda: make("raw", "half"),
    "make tables": lambda: make("tables", "packed"),
}
