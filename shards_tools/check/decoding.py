"""Decode every item as training does it, in threads, while the next items are read."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from mlrec.data.format import AUDIO_RATE, DatasetInfo, MediaInfo

MAX_ITEMS_IN_FLIGHT = 64
"""Number of items whose members are in memory while they wait to be decoded."""


class Decoding:
    """Threads that decode items, to be used as a context."""

    def __init__(self, info: DatasetInfo) -> None:
        self._media = info.media
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1)
        self._running: deque[Future[list[str]]] = deque()
        """Faults of each item in flight, oldest item first."""
        self._path = ""
        self._num_missing: Counter[int] = Counter()
        """Number of members of each item that are still to come."""
        self._members: dict[int, dict[str, bytes]] = {}
        """Members that have come, by item and name."""

    def __enter__(self) -> Decoding:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def begin(self, path: str, names: Iterable[str]) -> None:
        """Expect the members with these names, of the item shard at `path`."""
        self._path = path
        # An item whose members did not all come is dropped here. Its fault was reported by the
        # reader.
        self._members = {}
        self._num_missing = Counter(int(name.partition(".")[0]) for name in names)

    def take(self, name: str, content: bytes) -> None:
        """Take a member, and start to decode its item if it is the last one.

        Waits while too many items are in flight.
        """
        key, _, member = name.partition(".")
        item = int(key)
        self._members.setdefault(item, {})[member] = content
        self._num_missing[item] -= 1
        if self._num_missing[item]:
            return
        if len(self._running) >= MAX_ITEMS_IN_FLIGHT:
            wait([self._running[-MAX_ITEMS_IN_FLIGHT]])
        members = self._members.pop(item)
        job = self._threads.submit(_faults_of_item, self._path, item, members, self._media)
        self._running.append(job)

    def faults(self) -> Iterator[str]:
        """Yield the faults of the oldest items, as far as they are decoded."""
        while self._running and self._running[0].done():
            yield from self._running.popleft().result()

    def remaining_faults(self) -> Iterator[str]:
        """Yield the faults of all items in flight, and wait for them."""
        while self._running:
            yield from self._running.popleft().result()


def _faults_of_item(
    path: str, item: int, members: Mapping[str, bytes], media: MediaInfo
) -> list[str]:
    """Return what of an item cannot be decoded.

    Args:
        path: Path of its shard within the data set.
        members: All members of the item by name.
    """
    # imported here: decoding takes torch, which a check of a damaged data set may never reach
    from mlrec.data.decode import decode_items
    from mlrec.data.samples import Sample
    from mlrec.data.schema import InputSpec, Modality

    modalities = []
    specs = []
    if media.kind != "none":
        modalities.append(Modality.VIDEO)
    # covers and audio that failed to pack are no fault of the data set
    if media.has_cover and "cover.jpg" in members:
        modalities.append(Modality.COVER)
    if media.has_audio and "flac" in members:
        modalities.append(Modality.AUDIO)
    for modality in modalities:
        specs.append(InputSpec(modality, media.frames, media.size, length=AUDIO_RATE))
    # an item without a vector has no such member
    for name, width in media.features.items():
        specs.append(InputSpec(Modality.FEATURES, length=width, name=name))
    faults = []
    for spec in specs:
        try:
            reasons = decode_items([Sample(item, dict(members))], 1, [spec], media).bad_items
        except KeyError as error:
            reasons = {item: f"it has no {error}"}
        for reason in reasons.values():
            faults.append(
                f"{path}: the {spec.modality.value} of item {item} cannot be decoded: {reason}"
            )
    return faults
