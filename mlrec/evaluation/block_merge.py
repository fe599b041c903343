"""Join the blocks of an extraction: as one vector per item, several, or their components.

Shape letters: N items of all blocks, n items with a vector, K vectors per item.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mlrec.data.features.blocks import Block
from mlrec.data.features.info import Reduction
from mlrec.evaluation.principal_components import fit_principal_components
from mlrec.evaluation.stage_vectors import ItemVectors


class Merged(NamedTuple):
    """The vectors of an extraction."""

    raw_ids_n: pa.Array
    vectors_nX: np.ndarray
    """[n, width], or [n, K, width] for several vectors per item."""
    reduction: Reduction | None
    """The principal components that the vectors are; None for those of the blocks."""


def merge_blocks(
    blocks: Sequence[Block], vectors: ItemVectors, num_components: int, is_trained_N: np.ndarray
) -> Merged:
    """Join the vectors of the items that have one, in the order of the blocks.

    Args:
        num_components: principal components per item; 0 to leave the vectors as they are.
        is_trained_N: whether an item has training interactions, bool. The components are fitted to
            these items alone: items that appear later would leak into the features otherwise.
    """
    has_vector_N = np.concatenate([_has_vector(block) for block in blocks])
    raw_ids_N = pa.concat_arrays([block.raw_ids_n for block in blocks])
    raw_ids_n = raw_ids_N.filter(pa.array(has_vector_N))
    if num_components:
        is_fitted_N = is_trained_N & has_vector_N
        return _reduced(blocks, vectors, num_components, is_fitted_N, raw_ids_n)
    flat_nX = np.concatenate([block.vectors_nX for block in blocks])[has_vector_N]
    if vectors.rows:
        flat_nX = flat_nX.reshape(len(flat_nX), len(vectors.rows), -1)
    return Merged(raw_ids_n, flat_nX, None)


def _reduced(
    blocks: Sequence[Block],
    vectors: ItemVectors,
    num_components: int,
    is_fitted_N: np.ndarray,
    raw_ids_n: pa.Array,
) -> Merged:
    components = fit_principal_components(
        _parts(blocks, is_fitted_N), vectors.width, num_components
    )
    reduced = []
    for block in blocks:
        of_block = components(block.vectors_nX[_has_vector(block)])
        reduced.append(of_block.astype(vectors.dtype))
    reduction = Reduction(vectors.rows, components.explained_variance)
    return Merged(raw_ids_n, np.concatenate(reduced), reduction)


def _has_vector(block: Block) -> np.ndarray:
    """Return whether each item of a block has a vector, bool [n]."""
    return np.array([reason is None for reason in block.reasons_n], dtype=bool)


def _parts(blocks: Sequence[Block], is_chosen_N: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the vectors of the chosen items, one block at a time."""
    start = 0
    for block in blocks:
        stop = start + len(block.vectors_nX)
        yield block.vectors_nX[is_chosen_N[start:stop]]
        start = stop
