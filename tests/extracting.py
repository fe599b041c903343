"""Extractions that are recorded, stopped or meet a damaged item."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlrec.config import Config, DataConfig
from mlrec.data.features.blocks import Block
from mlrec.data.format import item_shard
from mlrec.data.stream import open_data
from mlrec.evaluation import extract as extraction
from mlrec.evaluation.extract import extract
from mlrec.evaluation.stage_vectors import NO_STAGES, StageOptions
from mlrec.runtime.distributed import World

ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))
STORAGE_FAULT = RuntimeError("the storage gave up")


def record_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the start of every block written after this call."""
    starts: list[int] = []
    write = extraction.write_block

    def record(out: str, start: int, block: Block, digest: str) -> None:
        starts.append(start)
        write(out, start, block, digest)

    monkeypatch.setattr(extraction, "write_block", record)
    return starts


def stop_after_two_blocks(
    config: Config,
    out: str,
    monkeypatch: pytest.MonkeyPatch,
    options: StageOptions = NO_STAGES,
    fault: BaseException = STORAGE_FAULT,
) -> None:
    """Run an extraction that meets a fault at the third block; by default its storage fails."""
    write = extraction.write_block

    def fail_at_third(out: str, start: int, block: Block, digest: str) -> None:
        if start == 32:
            raise fault
        write(out, start, block, digest)

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "write_block", fail_at_third)
        with pytest.raises(type(fault)):
            extract(config, out, ALONE, options)


def with_a_damaged_item(dataset_dir: Path, config: Config, folder: Path) -> Config:
    """Return the configuration on a copy of the data set whose item 5 cannot be read."""
    copy = folder / "data"
    shutil.copytree(dataset_dir, copy)
    opened = open_data(DataConfig(url=str(copy), cache_dir=str(folder / "cache")))
    with open(copy / item_shard(0), "r+b") as shard:
        shard.seek(opened.catalogue.members(5)[1].offset)
        shard.write(b"no jpeg at all")
    return replace(config, data=replace(config.data, url=str(copy)))
