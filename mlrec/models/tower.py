"""The item tower: encoders, projections and fusion; the heavy half of the model, run in chunks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mlrec.config import ItemConfig
from mlrec.data.features.files import ItemIds
from mlrec.data.schema import InputSpec, Modality, lookup
from mlrec.models.batchnorm import repeated, still_parts
from mlrec.models.dropout import RowDropout, drawing, dropouts_of
from mlrec.models.encoder_building import (
    build_encoder,
    build_head,
    context_of,
    save_whitening,
    starts_random,
)
from mlrec.models.encoder_files import NOTHING, Restored
from mlrec.models.encoders import ENCODERS, Encoder
from mlrec.models.fusion import FUSIONS
from mlrec.models.prefix import Prefix
from mlrec.models.prefix_cache import PrefixCache, rows_on
from mlrec.runtime.distributed import max_over_ranks, shares

log = logging.getLogger(__name__)


class ItemTower(nn.Module):
    """Media of n items to item vectors [n, D]."""

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
            restored: encoders that need no pretrained weights, as those of a run's checkpoint are loaded next.
            items: the data set's items, for encoders and whitening that look up features.

        Raises:
            ValueError: an encoder is unknown, an option does not fit, or a checkpoint cannot be read.
        """
        super().__init__()
        if twice := [name for name in config.encoders if config.encoders.count(name) > 1]:
            raise ValueError(f"item.encoders has {twice[0]} twice; name every encoder once")
        rows = [
            lookup(ENCODERS, name, "encoder").changed(name, config.options.get(name, {}))
            for name in config.encoders
        ]
        contexts = [
            context_of(name, row, config, width, catalogue_size, restored, items)
            for name, row in zip(config.encoders, rows, strict=True)
        ]
        encoders = [
            build_encoder(row, context, config) for row, context in zip(rows, contexts, strict=True)
        ]
        self.encoders = nn.ModuleList(encoders)
        self.heads = nn.ModuleList(map(build_head, rows, contexts, encoders))
        for name, row, head in zip(config.encoders, rows, self.heads, strict=True):
            if isinstance(head, nn.Identity) and "projection" in config.options.get(name, {}):
                raise ValueError(
                    f"item.options.{name}.projection is {row.projection!r}, and nothing is projected: {name} has the "
                    f"recommender's width by itself, {width}; leave it out, or give the encoder another width"
                )
        self.random_encoders = [
            context.name
            for row, context in zip(rows, contexts, strict=True)
            if starts_random(row, context)
        ]
        """Names of the encoders that start from random weights; tables of ids always do and are not among them."""
        self.fusion = lookup(FUSIONS, config.fusion, "fusion")(len(encoders), width)
        self.specs: tuple[InputSpec, ...] = tuple(encoder.spec for encoder in encoders)
        self.dropouts = nn.ModuleList(RowDropout(row.dropout) for row in rows)
        self.names, self.chunk, self.catalogue_size = config.encoders, config.chunk, catalogue_size
        self.prefixes: PrefixCache | None = None
        """Where the frozen prefixes of this rank's items are kept, after keep_prefixes."""
        self.recomputes = config.checkpoint != "never"
        """Whether a chunk's activations are computed again for its backward, so that memory holds one chunk's at a time."""
        self.steady_items = 0
        """A training step runs at least the chunks of so many items: under ZeRO-3 DeepSpeed fetches parameters ahead, and reuses
        them, only while every step calls the same modules equally often."""
        self._still = list(still_parts(self.encoders))
        self._drawing = dropouts_of(self)

    @property
    def knows_ids(self) -> bool:
        """Whether it knows items by the numbers of one packing, as a table of ids does."""
        encoders = zip(self.encoders, self.specs, strict=True)
        return any(
            spec.modality is Modality.ID and not encoder.joins_by_raw_id
            for encoder, spec in encoders
        )

    @property
    def trained(self) -> bool:
        """Whether an encoder has trained parameters; without one there are no activations to save memory on."""
        return any(parameter.requires_grad for parameter in self.encoders.parameters())

    def save_files(self, folders: Mapping[str, Path]) -> None:
        """Write into each encoder's folder, by its name, what builds it without its pretrained checkpoint."""
        for name, encoder, head in zip(self.names, self.encoders, self.heads, strict=True):
            assert isinstance(encoder, Encoder)
            encoder.save_files(folders[name])
            save_whitening(head, folders[name])

    def train(self, mode: bool = True) -> ItemTower:
        """Training mode for what is trained: frozen parts keep their statistics and have no dropout."""
        super().train(mode)
        for module in self._still:
            module.eval()
        return self

    def keep_prefixes(
        self, budget_bytes: int, dtype: torch.dtype, device: torch.device
    ) -> PrefixCache | None:
        """Makes room for the frozen prefixes of items, if there are any and the budget holds one; before DeepSpeed has the model.

        Args:
            dtype: of the activations in training.
            device: where encoders are tried out, which a CPU would take long for; they stay there.
        """
        prefixes: dict[int, Prefix] = {}
        training = self.training
        for place, (name, encoder, spec) in enumerate(
            zip(self.names, self.encoders, self.specs, strict=True)
        ):
            frozen = not all(parameter.requires_grad for parameter in encoder.parameters())
            if budget_bytes <= 0 or spec.modality is Modality.ID or not frozen:
                continue
            try:
                prefix = Prefix(encoder.to(device), self.train)
            except ValueError as error:
                log.warning(
                    "the frozen stages of %s run in each step, for what they give cannot be kept: %s",
                    name,
                    error,
                )
                continue
            if not prefix.empty:
                prefixes[place] = prefix
        self.train(training)
        inputs = {self.specs[place] for place in prefixes}
        others = {spec for place, spec in enumerate(self.specs) if place not in prefixes}
        try:
            if prefixes:
                self.prefixes = PrefixCache(
                    prefixes, frozenset(inputs - others), budget_bytes, dtype, self.catalogue_size
                )
        except ValueError as error:
            log.warning("no frozen prefix is kept: %s", error)
        return self.prefixes

    def forward(
        self,
        media: Mapping[InputSpec, torch.Tensor],
        kept: Mapping[int, Sequence[torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        """
        Args:
            kept: the items' prefixes by the encoder's place; `media` has then only what the encoders without one read.
        """
        vectors = []
        for place, (encoder, head, spec) in enumerate(
            zip(self.encoders, self.heads, self.specs, strict=True)
        ):
            if self.prefixes is not None and kept is not None and place in kept:
                found = self.prefixes.prefixes[place].resume(kept[place])
            else:
                found = encoder(media[spec])
            weight = next(
                head.parameters(), found
            )  # a table of features stays in fp32 in a bf16 run
            vectors.append(self.dropouts[place](head(found.to(weight.dtype))))
        fused: torch.Tensor = self.fusion(vectors)
        return fused

    def drawing(self, keys_n: torch.Tensor) -> AbstractContextManager[None]:
        """Return a context in which dropout draws by these keys of n items, int64 and on their device."""
        return drawing(self._drawing, lambda: keys_n)

    def encode(
        self,
        media: Mapping[InputSpec, torch.Tensor],
        most: int,
        device: torch.device | None = None,
        keys_O: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Vectors of this rank's n items [n, D], a chunk at a time.

        Args:
            media: in host memory as a rule; a chunk's rows go to the device when it is encoded, and are not kept there.
            most: the largest n of any rank. All ranks run the same number of chunks, of nearly equal size: under ZeRO-3 a rank
                that runs fewer would leave the others waiting for its parameters.
            device: of the encoders; None where the media are on it.
            keys_O: the items' row keys, int64 in host memory, where training drops something.
        """
        first = next(iter(media.values()))
        to = first.device if device is None else device
        everything, most = (
            torch.arange(len(first)),
            max(1, most, self.steady_items if self.training else 0),
        )
        return torch.cat(
            self._in_chunks(
                lambda part: self(_rows_of(media, part, to)), everything, most, to, keys_O
            )
        )

    def encode_kept(
        self,
        items_O: torch.Tensor,
        media: Mapping[InputSpec, torch.Tensor],
        valid_O: torch.Tensor,
        kept_O: torch.Tensor,
        add: bool,
        device: torch.device,
        keys_O: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Vectors of this rank's items [O, D] as of encode, by way of the kept prefixes, on the device; collective.

        The arguments are in host memory. An item of kept_O whose prefix is not here after all, for it could not be read when it
        should have been kept, has a vector that means nothing.

        Args:
            media: of an input in `prefixes.inputs` the rows of the items that are not in kept_O, of any other all rows.
            valid_O: the items that could be read.
            kept_O: the items that were not read, because their prefixes are kept.
            add: keep the others' prefixes, as far as there is room.
            device: of the encoders.
            keys_O: the items' row keys, int64, where training drops something.
        """
        cache = self.prefixes
        assert cache is not None
        media_rows = (~kept_O).cumsum(0) - 1

        def media_of(part: torch.Tensor) -> dict[InputSpec, torch.Tensor]:
            return _rows_of(spared, media_rows[part], device) | _rows_of(others, part, device)

        def resume(part: torch.Tensor) -> torch.Tensor:
            # an item that is not here has the first row's vector
            rows = (
                cache.rows_N1[items_O[part]].clamp(min=0)
                if len(part)
                else torch.zeros(1, dtype=torch.int64)
            )
            vectors: torch.Tensor = self(_rows_of(others, part, device), cache.take(rows, device))
            return vectors

        spared = {spec: tensor for spec, tensor in media.items() if spec in cache.kept.inputs}
        others = {spec: tensor for spec, tensor in media.items() if spec not in cache.kept.inputs}
        here_O = cache.has(items_O)
        new = torch.nonzero(valid_O & ~kept_O & ~here_O).flatten()[: cache.room if add else 0]
        ready_O = kept_O | here_O
        ready_O[new] = True
        ready, rest = torch.nonzero(ready_O).flatten(), torch.nonzero(~ready_O).flatten()
        most_new, most_ready, most_rest = max_over_ranks(
            torch.tensor([len(new), len(ready), len(rest)], device=device)
        ).tolist()
        order = (
            torch.cat([ready, rest]).argsort().to(device)
        )  # now: behind the chunks the host would wait for them
        for part in self._chunks(new, most_new):
            cache.add(items_O[part], media_of(part))
        all_kept = self.training and most_ready and not most_rest  # as from the second epoch on
        most_resumed = max(most_ready, self.steady_items) if all_kept else most_ready
        vectors = self._in_chunks(resume, ready, most_resumed, device, keys_O)
        most_rest = most_rest if most_ready else max(1, most_rest)
        vectors += self._in_chunks(
            lambda part: self(media_of(part)), rest, most_rest, device, keys_O
        )
        return torch.cat(vectors)[order]

    def _chunks(self, places: torch.Tensor, most: int) -> Sequence[torch.Tensor]:
        """The places in as many parts, of nearly equal size, as the rank with `most` of them has; some may be empty."""
        return (
            torch.split(places, list(shares(len(places), -(-most // self.chunk)))) if most else ()
        )

    def _in_chunks(
        self,
        encode: Callable[[torch.Tensor], torch.Tensor],
        places: torch.Tensor,
        most: int,
        device: torch.device,
        keys_O: torch.Tensor | None,
    ) -> list[torch.Tensor]:
        """What `encode` makes of the places, a chunk at a time; it takes their media to the device itself.

        So when a chunk is computed again for its backward, its media are copied again: held until then, those of all chunks would
        lie on the device at once.
        """

        def encode_drawing(part: torch.Tensor) -> torch.Tensor:
            if keys_O is None:
                return encode(part)
            # the one blank item of an empty part is dropped like the first item; nothing is kept of it
            key_places = part if len(part) else part.new_zeros(1)
            keys = keys_O if len(keys_O) else keys_O.new_zeros(1)
            with drawing(self._drawing, lambda: rows_on(keys, key_places, device)):
                return encode(part)

        # torch restores the random numbers of the devices that a repeated function's arguments are on: the dropout of
        # pretrained encoders needs them
        here = torch.empty(0, device=device)
        vectors = []
        for part in self._chunks(places, most):
            # only a rank with fewer items than chunks has an empty one; it runs the encoder on one item and keeps nothing of it
            if self.recomputes and self.trained and torch.is_grad_enabled():
                encoded = checkpoint(
                    lambda part, here: encode_drawing(part),
                    part,
                    here,
                    use_reentrant=False,
                    context_fn=self._twice,
                )
            else:
                encoded = encode_drawing(part)
            vectors.append(encoded[: len(part)])
        return vectors

    def _twice(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of a chunk's forward and of its repetition for the backward, which must not count in statistics again."""
        return nullcontext(), repeated(self.encoders)


def _rows_of(
    media: Mapping[InputSpec, torch.Tensor], places: torch.Tensor, device: torch.device
) -> dict[InputSpec, torch.Tensor]:
    """The media of the items at `places`, ascending, on the device; of one blank item where there are none."""
    if not len(places):
        return {
            spec: tensor.new_zeros((1, *tensor.shape[1:]), device=device)
            for spec, tensor in media.items()
        }
    first, end = int(places[0]), int(places[-1]) + 1
    if end - first == len(
        places
    ):  # neighbours are a view: out of pinned memory they are copied while the host goes on
        return {
            spec: tensor[first:end].to(device, non_blocking=True) for spec, tensor in media.items()
        }
    return {spec: rows_on(tensor, places, device) for spec, tensor in media.items()}
