"""Extract frozen features of the whole catalogue for `features/vectors`, on all ranks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mlrec import storage
from mlrec.config import Config
from mlrec.data.catalogue_pass import CataloguePass, ranked_items, stream_catalogue
from mlrec.data.decode import media_to_device
from mlrec.data.decode_on import delivered_for_ranking
from mlrec.data.features.blocks import Block, block_path, read_block, write_block
from mlrec.data.features.files import write_features
from mlrec.data.features.info import FeaturesInfo, Maker
from mlrec.data.features.vectors import are_equal, are_finite
from mlrec.data.schema import InputSpec
from mlrec.data.stream import Data, open_data
from mlrec.evaluation.block_merge import merge_blocks
from mlrec.evaluation.extraction import (
    ExtractionSettings,
    check_config,
    check_encodes_content,
    check_failures,
    check_is_place,
    check_same_settings,
    claim,
    complete_features,
    reporting_a_stop,
    settings_of,
    write_failures,
)
from mlrec.evaluation.stage_vectors import NO_STAGES, ItemVectors, StageOptions, item_vectors
from mlrec.models.building import as_trained, item_ids
from mlrec.models.chunk_choice import choose_for_ranking
from mlrec.models.encoders import encoder_row
from mlrec.models.notices import notices
from mlrec.models.precision import precision_notices, resolve_precision
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World, barrier, from_main
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import Task, task
from mlrec.runtime.terminal import say

BLOCK_ITEMS = 1024
"""A run that is stopped loses the blocks that it is at, one per rank."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Extraction:
    """What every step of an extraction needs."""

    config: Config
    out: str
    world: World
    data: Data
    spec: InputSpec
    """The encoder's input as the loader delivers it."""
    vectors: ItemVectors
    checkpoint: str | None
    """What the encoder's weights were read from; None where they are random."""
    settings: ExtractionSettings
    chunk: int
    """Items encoded at a time."""

    @property
    def items(self) -> np.ndarray:
        """int64: numbers of the items that get vectors, ascending."""
        return ranked_items(self.data)

    @property
    def starts(self) -> range:
        """Places in `items` at which blocks begin."""
        return range(0, len(self.items), BLOCK_ITEMS)

    def raw_ids(self, start: int) -> pa.Array:
        """Return the raw ids of a block's items."""
        items = self.items[start : start + BLOCK_ITEMS]
        # Row n - 1 of the table is item n, because id 0 is padding.
        return self.data.catalogue.table["raw_id"].take(pa.array(items - 1)).combine_chunks()

    def read_block(self, start: int) -> Block:
        """Return a block that was written.

        Raises:
            ValueError: it is missing, damaged, or not of this extraction.
        """
        vectors = self.vectors
        return read_block(
            self.out,
            start,
            self.raw_ids(start),
            vectors.width,
            vectors.dtype,
            self.settings.digest,
        )


def extract(
    config: Config, out: str, world: World, options: StageOptions = NO_STAGES
) -> FeaturesInfo:
    """Encode the catalogue with the encoder of `config` and write its vectors to `out`; collective.

    Vectors are the encoder's output before any projection, or with `options` the states of its
    stages. They are computed in train.precision. Items that cannot be read, or whose vector is not
    finite, are omitted and listed in failures.jsonl. A stopped extraction resumes on any number of
    ranks.

    Args:
        out: any URL.

    Raises:
        ValueError: several encoders are configured, or one that encodes no content, the options do
            not fit the encoder, or `out` holds other features or files that no extraction wrote.
        RuntimeError: more items than data.max_bad_items failed; no features are written.
    """
    check_config(config)
    config = resolve_precision(config, world.device)
    # First, because building an encoder may download gigabytes before a wrong place is noticed.
    from_main(lambda: check_is_place(out))
    data = open_data(config.data)
    # An encoder with random weights must be the same on every rank, and after a restart.
    torch.manual_seed(config.seed)
    tower = ItemTower(
        config.item, config.recommender.width, data.catalogue.size, items=item_ids(data)
    )
    check_encodes_content(tower)
    encoder: Any = tower.encoders[0]
    (spec,) = delivered_for_ranking(tower.specs, data, world)
    # hashes the weights on the host, before they change their type
    settings = settings_of(config, data, encoder, spec, options)
    vectors = item_vectors(encoder, tower.names[0], options)
    checkpoint = _checkpoint_of(config, tower)
    choose_for_ranking(config, tower, world)
    extraction = _Extraction(
        config, out, world, data, spec, vectors, checkpoint, settings, tower.chunk
    )
    _check_enough_items(extraction)
    from_main(lambda: check_same_settings(out, settings))
    if world.is_main:
        for notice in [*notices(tower, data), *precision_notices(config, world.device)]:
            say(notice, error=True, flush=True)
    info = from_main(lambda: complete_features(out))
    if info is None:
        as_trained(vectors.module.eval(), config, world.device)
        # not before: an encoder that cannot be built must not keep the place from the next one
        _claim(extraction)
        with reporting_a_stop(out, len(extraction.items), world) as saved:
            _encode_missing_blocks(extraction, saved)
            info = from_main(lambda: _merge(extraction))
    return info


def _check_enough_items(extraction: _Extraction) -> None:
    """Check that principal components can be fitted.

    Raises:
        ValueError: the training split has too few items.
    """
    popularity = extraction.data.catalogue.popularity_N1[extraction.items]
    num_trained = int((popularity > 0).sum())
    if extraction.settings.pca and num_trained <= extraction.settings.pca:
        raise ValueError(
            f"--pca is {extraction.settings.pca}, and only {counted(num_trained, 'item')} of the "
            "data set have training interactions. Components are fitted to these; give fewer "
            "components than there are items"
        )


def _checkpoint_of(config: Config, tower: ItemTower) -> str | None:
    name = tower.names[0]
    row = encoder_row(name, config.item.options.get(name, {}))
    return None if tower.random_encoders else row.checkpoint


def _claim(extraction: _Extraction) -> None:
    barrier()  # every rank has its encoder
    # before the first block of any rank
    from_main(lambda: claim(extraction.out, extraction.settings))


def _encode_missing_blocks(extraction: _Extraction, saved: Task) -> None:
    """Encode this rank's share of the blocks that are missing or have failed items; collective.

    Args:
        saved: counter of the saved items.
    """
    world = extraction.world
    # Rank 0 alone looks, so that all ranks divide the same list.
    missing = from_main(
        lambda: [start for start in extraction.starts if not _is_complete(extraction, start)]
    )
    num_missing = sum(len(extraction.items[start : start + BLOCK_ITEMS]) for start in missing)
    saved.reach(saved.total - num_missing)
    todo = {
        start: extraction.items[start : start + BLOCK_ITEMS]
        for start in missing[world.rank :: world.size]
    }
    with task("encoding items", sum(map(len, todo.values()))) as under_way:
        # Not collective: ranks have different numbers of blocks, and each holds the whole encoder.
        for start, items in todo.items():
            write_block(
                extraction.out,
                start,
                _encode(extraction, start, items, under_way),
                extraction.settings.digest,
            )
            saved.advance(len(items))
    # Rank 0 merges next, and reads the blocks of all ranks.
    barrier()
    saved.reach(saved.total)


def _is_complete(extraction: _Extraction, start: int) -> bool:
    """Tell whether a block is complete. A block with failed items is tried again."""
    if not storage.exists(block_path(extraction.out, start)):
        return False
    try:
        return not extraction.read_block(start).has_failures
    except ValueError as error:
        log.warning("%s; its items are encoded again", error)
        return False


@torch.no_grad()
def _encode(extraction: _Extraction, start: int, items: np.ndarray, under_way: Task) -> Block:
    spec, config, world = extraction.spec, extraction.config, extraction.world
    encode = extraction.vectors.module
    share = CataloguePass(
        extraction.data, [spec], items, num_chunks=-(-len(items) // extraction.chunk)
    )
    vectors = torch.zeros(len(items), extraction.vectors.width, device=world.device)
    is_read = np.zeros(len(items), dtype=bool)
    reasons: dict[int, str] = {}
    for chunk in stream_catalogue(
        share, config.data.num_workers, pin_memory=world.device.type == "cuda"
    ):
        run = slice(chunk.start, chunk.start + len(chunk.valid_n))
        vectors[run] = encode(media_to_device(chunk.media[spec], spec, world.device)).float()
        is_read[run] = chunk.valid_n.numpy()
        reasons.update(chunk.bad_items)
        under_way.advance(len(chunk.valid_n))
    # values beyond float16 become infinite, which is reported below
    with np.errstate(over="ignore"):
        vectors_nX = vectors.cpu().numpy().astype(extraction.vectors.dtype)
    for item in items[~is_read].tolist():
        reasons.setdefault(item, "it was not delivered")
    types = f"train.precision={config.train.precision}"
    if extraction.vectors.dtype is np.float16:
        types += ", stored as float16"
    for item in items[~are_finite(vectors_nX)].tolist():
        reasons.setdefault(item, f"its vector is not finite ({types})")
    # A block with a value that is not finite counts as damaged; the merge drops these rows.
    vectors_nX[np.isin(items, list(reasons))] = 0
    return Block(
        extraction.raw_ids(start), vectors_nX, [reasons.get(item) for item in items.tolist()]
    )


def _merge(extraction: _Extraction) -> FeaturesInfo:
    """Join the blocks into features, and remove them.

    Raises:
        RuntimeError: too many items failed, or a block was lost since it was written.
    """
    out = extraction.out
    try:
        blocks = [extraction.read_block(start) for start in extraction.starts]
    except ValueError as error:
        raise RuntimeError(f"{error}. Run the same command again") from error
    reasons = [reason for block in blocks for reason in block.reasons_n]
    num_failures = write_failures(out, extraction.items, reasons)
    most = extraction.config.data.max_bad_items
    check_failures(out, num_failures, len(extraction.items), most)
    # Entry n of the reasons and blocks is item n of the pass, as the blocks are joined in order.
    is_trained = extraction.data.catalogue.popularity_N1[extraction.items] > 0
    merged = merge_blocks(blocks, extraction.vectors, extraction.settings.pca, is_trained)
    encoder = extraction.config.item.encoders[0]
    if are_equal(merged.vectors_nX):
        log.warning(
            "all %d vectors are equal, so %s cannot tell items apart; check its inputs and weights",
            len(merged.raw_ids_n),
            encoder,
        )
    rows = () if merged.reduction else extraction.vectors.rows
    maker = Maker(encoder, extraction.checkpoint, rows, merged.reduction)
    info = write_features(
        out, merged.raw_ids_n, merged.vectors_nX, item_ids(extraction.data), maker
    )
    # Last: a crash before features.json is written costs only the merge.
    for start in extraction.starts:
        storage.remove(block_path(out, start))
    return info
