"""Features in the samples of a data set, which `mlrec-shards make --features` has put there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mlrec.data.decode import decode_items
from mlrec.data.format import Catalogue, MediaInfo
from mlrec.data.item_store import ItemStore
from mlrec.data.schema import InputSpec, Modality


@dataclass(frozen=True)
class StoredFeatures:
    """Features of one name in a data set."""

    width: int
    """Number of values per vector (X)."""
    num_missing: int
    """Number of packed items without a vector."""
    read: Callable[[], np.ndarray]
    """Function that reads all vectors, float32 [n, X], in the order of the items.

    It reads every item of the data set, which takes long where the data set is remote.
    """

    def spec(self, name: str) -> InputSpec:
        """Return the input that delivers these features."""
        return InputSpec(Modality.FEATURES, length=self.width, name=name)


def stored_features(
    media: MediaInfo, catalogue: Catalogue, store: ItemStore
) -> dict[str, StoredFeatures]:
    """Return the features of a data set, by name."""
    num_packed = int(catalogue.ok_N1.sum())
    features = {}
    for name, width in media.features.items():
        num_missing = num_packed - catalogue.items_with(f"{name}.npy")
        read = partial(_read_all, name, media, catalogue, store)
        features[name] = StoredFeatures(width, num_missing, read)
    return features


def _read_all(name: str, media: MediaInfo, catalogue: Catalogue, store: ItemStore) -> np.ndarray:
    """Return the vectors of all items that have one.

    Raises:
        ValueError: one cannot be read.
    """
    member = f"{name}.npy"
    items = []
    for item in np.flatnonzero(catalogue.ok_N1).tolist():
        if any(stored.name == member for stored in catalogue.members(item)):
            items.append(item)
    spec = InputSpec(Modality.FEATURES, length=media.features[name], name=name)
    decoded = decode_items(store.read_many(items, [member]), len(items), [spec], media)
    if decoded.bad_items:
        item, reason = next(iter(decoded.bad_items.items()))
        raise ValueError(f"the features {name} of item {item} cannot be read: {reason}")
    vectors_nX: np.ndarray = decoded.media[spec].numpy()
    return vectors_nX
