"""The item tower: encoders, projections and fusion, run in chunks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn

from mlrec.config import ItemConfig
from mlrec.data.features.join import ItemIds
from mlrec.data.schema import InputSpec, Modality, lookup
from mlrec.models.activation_cache import ActivationCache
from mlrec.models.batchnorm import frozen_parts
from mlrec.models.chunks import (
    ChunkInputs,
    Counts,
    ItemGroups,
    group_items,
    keys_of_rows,
    largest_counts,
    media_of_rows,
    schedule_chunks,
    split_evenly,
)
from mlrec.models.dropout import RowDropout, drawing, dropouts_of
from mlrec.models.encoder_building import build_encoders, build_inter_modal
from mlrec.models.encoder_files import NOTHING, Restored
from mlrec.models.encoders import Encoder
from mlrec.models.encoders.sharded_table import ShardedTable
from mlrec.models.fusion import FUSIONS
from mlrec.models.head_building import save_whitening
from mlrec.models.prefix import find_prefixes
from mlrec.models.recomputation import run_checkpointed
from mlrec.runtime.distributed import to_device

log = logging.getLogger(__name__)

DEFAULT_CHUNK = 32
"""Chunk size with item.chunk=auto until one is chosen for a step or a ranking."""


class ItemTower(nn.Module):
    """The encoder of items: media of n items to vectors [n, D]."""

    def __init__(
        self,
        config: ItemConfig,
        width: int,
        catalogue_size: int,
        restored: Restored = NOTHING,
        items: ItemIds | None = None,
    ) -> None:
        """
        Args:
            restored: encoders whose weights are loaded from a run's checkpoint next.
            items: the data set's items, for encoders and whitening that look up features.

        Raises:
            ValueError: an encoder is unknown, an option misfits, or a checkpoint is unreadable.
        """
        super().__init__()
        built = build_encoders(config, width, catalogue_size, restored, items)
        self.names = config.encoders
        self.chunk = DEFAULT_CHUNK if config.chunk == "auto" else config.chunk
        """Items encoded at a time; with item.chunk=auto until chunk_choice has chosen."""
        self.catalogue_size = catalogue_size

        # These names are those of the checkpoints' tensors.
        self.encoders = nn.ModuleList(part.encoder for part in built)
        self.heads = nn.ModuleList(part.head for part in built)
        self.inter_modal = build_inter_modal(config, built, width)
        num_vectors = len(built) + (self.inter_modal is not None)
        self.fusion = lookup(FUSIONS, config.fusion, "fusion")(num_vectors, width)
        self.dropouts = nn.ModuleList(RowDropout(part.row.dropout) for part in built)

        self.specs: tuple[InputSpec, ...] = tuple(part.encoder.spec for part in built)
        """Inputs of the encoders as the loader delivers them."""
        self.random_encoders = [part.name for part in built if part.starts_random]
        """Encoders that start from random weights, except tables of ids, which always do."""
        self.activation_cache: ActivationCache | None = None
        """Cache of the frozen stages' activations, once build_activation_cache has made one."""
        self.held_chunks: int | None = None if config.checkpoint == "never" else 0
        """Activation checkpointing: chunks of a step that hold their activations, the last ones.
        None if all do."""
        self.steady_items = 0
        """Minimum number of items of a training step; 0 for none. Under ZeRO-3, DeepSpeed fetches
        parameters ahead only while every step calls the same modules equally often."""
        self.sharded_tables: list[ShardedTable] = []
        """Tables of ids that the engine has sharded: each rank holds a part of their rows."""
        self._frozen_parts = list(frozen_parts(self.encoders))
        self._dropout_layers = dropouts_of(self)

    @property
    def knows_ids(self) -> bool:
        """Whether an encoder knows items by the numbers of one packing, as a table of ids does."""
        encoders = zip(self.encoders, self.specs, strict=True)
        return any(
            spec.modality is Modality.ID and not encoder.joins_by_raw_id
            for encoder, spec in encoders
        )

    @property
    def trained(self) -> bool:
        """Whether an encoder has trained parameters. Without one, no activations are held."""
        is_trained = any(parameter.requires_grad for parameter in self.encoders.parameters())
        return is_trained or bool(self.sharded_tables)

    def recomputes_chunk(self, remaining: int) -> bool:
        """Return whether a chunk's activations are recomputed for its backward pass.

        The last chunks are held: their backward passes come first, and free memory for the others.

        Args:
            remaining: number of the step's later chunks.
        """
        return self.held_chunks is not None and remaining >= self.held_chunks

    def fetch_rows(self, items_U: torch.Tensor) -> None:
        """Fetch the rows of a step's items from the ranks that hold them; collective.

        Args:
            items_U: in host memory.
        """
        for table in self.sharded_tables:
            table.fetch(items_U)

    def save_files(self, folders: Mapping[str, Path]) -> None:
        """Write the files that build each encoder without its pretrained checkpoint."""
        for name, encoder, head in zip(self.names, self.encoders, self.heads, strict=True):
            assert isinstance(encoder, Encoder)
            encoder.save_files(folders[name])
            save_whitening(head, folders[name])

    def train(self, mode: bool = True) -> ItemTower:
        """Set training mode; frozen parts stay in evaluation mode, without dropout."""
        super().train(mode)
        # set before every step: batch norms and dropout of frozen parts stay off
        for module in self._frozen_parts:
            module.eval()
        return self

    def build_activation_cache(
        self, budget_bytes: int, dtype: torch.dtype, device: torch.device
    ) -> ActivationCache | None:
        """Build the cache of the frozen stages' activations, before DeepSpeed has the model.

        Args:
            budget_bytes: host memory for the cache; 0 disables it.
            dtype: of the activations in training.
            device: where encoders are tried out and left; a CPU would take long.

        Returns:
            None where no encoder has a frozen prefix, or the budget does not hold one item.
        """
        if budget_bytes <= 0:
            return None
        training = self.training
        # trying prefixes out switches the training mode back and forth
        prefixes = find_prefixes(self.names, self.encoders, self.train, device)
        self.train(training)
        if not prefixes:
            return None
        read_from_cache = {self.specs[index] for index in prefixes}
        read_always = {spec for index, spec in enumerate(self.specs) if index not in prefixes}
        # two encoders may read one input, and only one of them have a prefix
        skipped_inputs = frozenset(read_from_cache - read_always)
        try:
            self.activation_cache = ActivationCache(
                prefixes, skipped_inputs, budget_bytes, dtype, self.catalogue_size
            )
        except ValueError as error:
            log.warning("no activations are cached: %s", error)
        return self.activation_cache

    def forward(
        self,
        media: Mapping[InputSpec, torch.Tensor],
        activations: Mapping[int, Sequence[torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        """Encode, project and fuse n items.

        Args:
            media: of the inputs of all encoders that are not in `activations`.
            activations: cached, by the encoder's index; None to run all stages.
        """
        vectors = []
        encodings = []
        for index, head in enumerate(self.heads):
            encoded = self._encoded(index, media, activations or {})
            encodings.append(encoded)
            # a table of features stays in fp32 in a bf16 run
            weight = next(head.parameters(), encoded)
            vectors.append(self.dropouts[index](head(encoded.to(weight.dtype))))
        if self.inter_modal is not None:
            vectors.append(self.inter_modal(encodings))
        fused: torch.Tensor = self.fusion(vectors)
        return fused

    def _encoded(
        self,
        index: int,
        media: Mapping[InputSpec, torch.Tensor],
        activations: Mapping[int, Sequence[torch.Tensor]],
    ) -> torch.Tensor:
        """Return the vectors of one encoder, before its projection."""
        if index in activations:
            assert self.activation_cache is not None
            return self.activation_cache.prefixes[index].resume(activations[index])
        encoded: torch.Tensor = self.encoders[index](media[self.specs[index]])
        return encoded

    def drawing(self, keys_n: torch.Tensor) -> AbstractContextManager[None]:
        """Return a context in which dropout draws by the keys of n items, int64 on their device."""
        return drawing(self._dropout_layers, lambda: keys_n)

    def encode(
        self,
        media: Mapping[InputSpec, torch.Tensor],
        most: int,
        device: torch.device | None = None,
        keys_O: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the vectors of this rank's n items [n, D], encoded in chunks.

        Args:
            media: in host memory as a rule; a chunk's rows go to the device when it is encoded.
            most: the largest n of any rank. All ranks run the same number of chunks: under ZeRO-3 a
                rank with fewer would leave the others waiting for its parameters.
            device: of the encoders; None where the media are on it.
            keys_O: the items' row keys for dropout, int64 in host memory; None to drop nothing.
        """
        first = next(iter(media.values()))
        to = first.device if device is None else device
        steady_items = self.steady_items if self.training else 0
        chunks = split_evenly(torch.arange(len(first)), max(1, most, steady_items), self.chunk)

        def load(rows: torch.Tensor) -> ChunkInputs:
            return ChunkInputs(media_of_rows(media, rows, to))

        vectors = []
        for remaining, rows in _counted_down(chunks):
            vectors.append(self._encode_chunk(load, rows, to, keys_O, remaining))
        return torch.cat(vectors)

    def encode_cached(
        self,
        items_O: torch.Tensor,
        media: Mapping[InputSpec, torch.Tensor],
        valid_O: torch.Tensor,
        cached_O: torch.Tensor,
        add: bool,
        device: torch.device,
        keys_O: torch.Tensor | None = None,
        most: Counts | None = None,
    ) -> torch.Tensor:
        """Return the vectors [O, D] of this rank's items on `device`, using the cache; collective.

        The arguments are in host memory. The vectors equal those of encode.

        Args:
            media: row i is that of the i-th item. For an input of `items.inputs` of the cache,
                rows of items in cached_O are arbitrary.
            valid_O: items that could be read, bool.
            cached_O: items whose media were skipped because they are cached, bool.
            add: add the other items to the cache, as far as there is room.
            device: of the encoders.
            keys_O: the items' row keys for dropout, int64; None outside training.
            most: the largest counts of any rank; None to exchange them here.
        """
        cache = self.activation_cache
        assert cache is not None
        in_cache_O = cache.has(items_O)
        # The reverse is allowed: a worker may read media of an item that is cached meanwhile.
        assert bool((in_cache_O | ~cached_O).all()), "skipped media of an item that is not cached"

        skipped_inputs = cache.items.inputs
        remaining_media = {spec: media[spec] for spec in media if spec not in skipped_inputs}
        groups = self._groups(items_O, valid_O, add)
        if most is None:
            most = largest_counts(groups.counts, device)
        order = to_device(torch.cat([groups.cached, groups.uncached]).argsort(), device)
        steady_items = self.steady_items if self.training else 0
        schedule = schedule_chunks(groups, most, self.chunk, steady_items)

        def load_media(rows: torch.Tensor) -> ChunkInputs:
            return ChunkInputs(media_of_rows(media, rows, device))

        def load_cached(rows: torch.Tensor) -> ChunkInputs:
            remaining = media_of_rows(remaining_media, rows, device)
            return ChunkInputs(remaining, cache.take(items_O[rows], device))

        # New items first: they are then encoded from the cache like all others, with equal vectors.
        for rows in schedule.new:
            loaded = load_media(rows).media
            cache.add(items_O[rows], {index: loaded[self.specs[index]] for index in cache.prefixes})
        vectors = []
        for remaining, rows in _counted_down(schedule.cached):
            remaining += len(schedule.uncached)
            vectors.append(self._encode_chunk(load_cached, rows, device, keys_O, remaining))
        for remaining, rows in _counted_down(schedule.uncached):
            vectors.append(self._encode_chunk(load_media, rows, device, keys_O, remaining))
        # back from the order of the schedule to the order of the batch
        return torch.cat(vectors)[order]

    def counts_to_cache(self, items_O: torch.Tensor, valid_O: torch.Tensor) -> Counts:
        """Return the numbers of this rank's items by the way that encode_cached encodes them."""
        return self._groups(items_O, valid_O, add=True).counts

    def _groups(self, items_O: torch.Tensor, valid_O: torch.Tensor, add: bool) -> ItemGroups:
        cache = self.activation_cache
        assert cache is not None
        return group_items(valid_O, cache.has(items_O), cache.room if add else 0)

    def _encode_chunk(
        self,
        load: Callable[[torch.Tensor], ChunkInputs],
        rows: torch.Tensor,
        device: torch.device,
        keys_O: torch.Tensor | None,
        remaining: int,
    ) -> torch.Tensor:
        """Return the vectors of a chunk's rows, with activation checkpointing where that is on.

        Args:
            load: copies the rows' inputs to the device. It runs again when the chunk is recomputed,
                so the device never holds the media of all chunks at once.
            remaining: number of the step's later chunks.
        """

        def encode() -> torch.Tensor:
            with self._drawing_rows(keys_O, rows, device):
                vectors: torch.Tensor = self(*load(rows))
            return vectors

        if self.recomputes_chunk(remaining) and self.trained and torch.is_grad_enabled():
            encoded = run_checkpointed(encode, self.encoders, device)
        else:
            encoded = encode()
        # an empty chunk has run on a blank item
        return encoded[: len(rows)]

    def _drawing_rows(
        self, keys_O: torch.Tensor | None, rows: torch.Tensor, device: torch.device
    ) -> AbstractContextManager[None]:
        """Return a context in which dropout draws by the keys of these rows."""
        if keys_O is None:
            return nullcontext()
        return drawing(self._dropout_layers, lambda: keys_of_rows(keys_O, rows, device))


def _counted_down(chunks: Sequence[torch.Tensor]) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each chunk after the number of chunks that follow it."""
    for index, rows in enumerate(chunks):
        yield len(chunks) - index - 1, rows
