"""Frozen features of the whole catalogue, by one encoder, for `features/vectors`. Alone or under a launcher."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mlrec import config as configuration
from mlrec import storage
from mlrec.answers import FLAG, HELP, print_json
from mlrec.config import Config
from mlrec.config_files import is_setting
from mlrec.data.catalogue_pass import CataloguePass, ranked_items, stream_catalogue
from mlrec.data.format import npy_bytes, read_npy
from mlrec.data.stream import Data, open_data
from mlrec.distributed import World, barrier, from_main, start_world, stop_world
from mlrec.engine import as_trained
from mlrec.models.encoders import Encoder
from mlrec.models.tower import ItemTower
from mlrec.process import asks_for_help, exit_with, run_main
from mlrec.progress import Task, task
from mlrec.run_files import FAILURES_FILE
from mlrec.terminal import say

BLOCK_ITEMS = 1024
"""A run that is stopped loses the blocks that it is at, one per rank."""
WORK_FOLDER, SETTINGS_FILE = "_work", "settings.json"
FEATURES_FILE, ITEMS_FILE, TABLE_FILE = "features.npy", "items.npy", "features.parquet"
"""float32 [n, width]; int64 [n], the items of the rows, ascending, written last; both again with raw ids, for other programs."""

USAGE = f"""usage: mlrec extract [CONFIG ...] OUT [key=value ...] [{FLAG}]

Writes the features of the whole catalogue by one encoder; a stopped extraction goes on with the same command.

  CONFIG      YAML files as of mlrec train, such as configs/item/videomae.yaml; they or key=value set data.url and item.encoders
  OUT         folder or URL (s3://, gs://, az://) for the features, the last argument that is not key=value; a run reads them with
              item.encoders=[features/vectors] item.options.features/vectors.checkpoint=OUT
  key=value   settings, after the files'; mlrec list keys explains them
  {FLAG}      {HELP}"""


def extract(config: Config, out: str, world: World) -> tuple[int, int]:
    """Encodes the catalogue with the one encoder of `config` and writes its vectors to `out`, any URL; collective.

    They are what the encoder gives before any projection, computed in train.precision. Items that cannot be read are left out and
    listed in failures.jsonl. A run that was stopped goes on, on any number of ranks.

    Returns:
        Number of items and width.

    Raises:
        ValueError: several encoders are configured, or `out` holds features of something else.
    """
    if len(config.item.encoders) != 1:
        raise ValueError(f"item.encoders is {list(config.item.encoders)}; features are extracted with one encoder at a time")
    data = open_data(config.data)
    item = {key: value for key, value in asdict(config.item).items() if key != "checkpoint"}  # of training only
    settings = {
        "dataset": data.info.fingerprint,
        "item": json.loads(json.dumps(item)),
        "seed": config.seed,
        "precision": config.train.precision,
    }
    _check_unclaimed(out, settings)
    there = from_main(lambda: storage.list_files(out))
    if ITEMS_FILE not in there:
        torch.manual_seed(config.seed)
        encoder: Any = ItemTower(config.item, config.recommender.width, data.catalogue.size).encoders[0]
        as_trained(encoder.eval(), config, world.device)
        _claim(out, settings)  # not before: an encoder that cannot be built must not keep the place from the next one
        items = ranked_items(data)
        starts = range(0, len(items), BLOCK_ITEMS)
        missing = [start for start in starts if f"{WORK_FOLDER}/{_block(start)}" not in there]
        todo = {start: items[start : start + BLOCK_ITEMS] for start in missing[world.rank :: world.size]}
        with task("encoding items", sum(map(len, todo.values()))) as under_way:
            for start, block in todo.items():
                _write_block(out, start, _encode(encoder, data, block, config, world, under_way))
        barrier()
        if world.is_main:
            _merge(data, out, starts)
        barrier()
    count, width = read_npy(storage.read_bytes(storage.join(out, FEATURES_FILE))).shape
    return count, width


def _check_unclaimed(out: str, settings: dict[str, Any]) -> None:
    where = storage.join(out, WORK_FOLDER, SETTINGS_FILE)
    if storage.exists(where):
        begun = json.loads(storage.read_bytes(where))
        changed = [key for key in settings if begun.get(key) != settings[key]]
        if changed:
            raise ValueError(f"{out} holds features of another {' and '.join(changed)}; choose another place, or remove it first")


def _claim(out: str, settings: dict[str, Any]) -> None:
    where, content = storage.join(out, WORK_FOLDER, SETTINGS_FILE), json.dumps(settings, indent=1) + "\n"
    barrier()  # every rank has looked at what is there, and has its encoder
    from_main(lambda: storage.write_bytes(where, content.encode()))  # before the first block of any rank


def _block(start: int) -> str:
    return f"block-{start:09d}.npz"


Block = tuple[np.ndarray, np.ndarray, dict[int, str]]
"""int64 [n] items, float32 [n, width] features, and the items that could not be read, with the reason."""


@torch.no_grad()
def _encode(encoder: Encoder, data: Data, items: np.ndarray, config: Config, world: World, under_way: Task) -> Block:
    share = CataloguePass(data, [encoder.spec], items, num_chunks=-(-len(items) // config.item.chunk))
    features = torch.zeros(len(items), encoder.width, device=world.device)
    readable = np.zeros(len(items), dtype=bool)
    bad_items: dict[int, str] = {}
    for chunk in stream_catalogue(share, config.data.num_workers, pin_memory=world.device.type == "cuda"):
        run = slice(chunk.start, chunk.start + len(chunk.valid_n))
        features[run] = encoder(chunk.media[encoder.spec].to(world.device, non_blocking=True)).float()
        readable[run] = chunk.valid_n.numpy()
        bad_items.update(chunk.bad_items)
        under_way.advance(len(chunk.valid_n))
    return items[readable], features.cpu().numpy()[readable], bad_items


def _write_block(out: str, start: int, block: Block) -> None:
    items, features, bad_items = block
    reasons = np.frombuffer(json.dumps(bad_items).encode(), dtype=np.uint8)
    sink = io.BytesIO()
    np.savez(sink, items=items, features=features, reasons=reasons)
    storage.write_bytes(storage.join(out, WORK_FOLDER, _block(start)), sink.getvalue())


def _read_blocks(out: str, starts: Sequence[int]) -> Iterator[Block]:
    for start in starts:
        with np.load(io.BytesIO(storage.read_bytes(storage.join(out, WORK_FOLDER, _block(start)))), allow_pickle=False) as found:
            yield found["items"], found["features"], json.loads(found["reasons"].tobytes())


def _merge(data: Data, out: str, starts: Sequence[int]) -> None:
    blocks = list(_read_blocks(out, starts))
    items, features = (np.concatenate([block[part] for block in blocks]) for part in (0, 1))
    failures = [json.dumps({"item": int(i), "reason": reason}) + "\n" for block in blocks for i, reason in block[2].items()]
    storage.write_bytes(storage.join(out, FAILURES_FILE), "".join(failures).encode())
    storage.write_bytes(storage.join(out, FEATURES_FILE), npy_bytes(features))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1])
    raw_ids = data.catalogue.table["raw_id"].take(pa.array(items - 1))
    sink = io.BytesIO()
    pq.write_table(pa.table({"item": items, "raw_id": raw_ids, "vector": vectors}), sink, compression="zstd")
    storage.write_bytes(storage.join(out, TABLE_FILE), sink.getvalue())
    storage.write_bytes(storage.join(out, ITEMS_FILE), npy_bytes(items))
    for start in starts:
        storage.remove(storage.join(out, WORK_FOLDER, _block(start)))


def main(arguments: Sequence[str]) -> None:
    """Extracts: [CONFIG ...] OUT [key=value ...] [--json].

    Raises:
        ValueError: OUT is missing.
    """
    if asks_for_help(arguments, USAGE):
        return
    given = [argument for argument in arguments if not argument.startswith("--local_rank") and argument != FLAG]
    places = [argument for argument in given if not is_setting(argument) and not argument.startswith("-")]
    if not places or places[-1].endswith((".yaml", ".yml")):
        after = f" after {places[-1]}" if places else ""
        raise ValueError(f"OUT is missing{after}: name the folder or URL that the features go to; see: mlrec extract --help")
    out = places[-1]
    place = len(given) - 1 - given[::-1].index(out)
    config = configuration.load_arguments(given[:place] + given[place + 1 :])
    world = start_world()
    count, width = extract(config, out, world)
    if world.is_main and FLAG in arguments:
        print_json({"out": out, "items": count, "width": width})
    elif world.is_main:
        say(f"{out}: features of {count:,} items, {width} wide")
    stop_world()


if __name__ == "__main__":
    exit_with(run_main(main, sys.argv[1:]))
