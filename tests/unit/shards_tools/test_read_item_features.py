"""make --features: the vectors of a packing's items, read from files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from features import FINGERPRINT, save_features

from mlrec.data.features.tables import table_bytes
from shards_tools.pack.features import digest_of, read_item_features


def test_read_item_features_of_an_extraction_says_where_it_came_from(tmp_path: Path) -> None:
    vectors = save_features(tmp_path / "extracted", ["b", "a", "c"])
    joined = read_item_features({"text": f"{tmp_path}/extracted"}, ["a", "x", "b"], "mine")
    assert joined.widths == {"text": 4}
    assert [sorted(item) for item in joined.vectors_of] == [["text"], [], ["text"]]
    assert np.array_equal(joined.vectors_of[2]["text"], vectors[0])
    assert joined.remarks == [
        f"features text: extracted was made of another packing or data set (tiny, fingerprint "
        f"{FINGERPRINT[:12]}); vectors are joined by raw ids",
        "features text: 1 of 3 items have no vector in extracted",
        "features text: 1 of 3 vectors in extracted belong to no item of the data set",
    ]
    assert digest_of({"text": f"{tmp_path}/extracted"}).startswith("text=")


def test_read_item_features_with_several_vectors_per_item_are_refused(tmp_path: Path) -> None:
    save_features(tmp_path / "stages", [1, 2], rows=("stage 0", "stage 1"))
    with pytest.raises(ValueError, match="has 2 vectors per item, and a sample has room for one"):
        read_item_features({"text": f"{tmp_path}/stages"}, ["1", "2"], "tiny")


def test_read_item_features_in_float16_become_float32(tmp_path: Path) -> None:
    vectors = np.array([[1.5, 2.5], [3.5, 4.5]], np.float16)
    content = table_bytes(pa.array(["1", "2"]), vectors)
    (tmp_path / "half.parquet").write_bytes(content)
    joined = read_item_features({"text": f"{tmp_path}/half.parquet"}, ["2", "1"], "tiny")
    assert joined.vectors_of[0]["text"].dtype == np.float32
    assert np.array_equal(joined.vectors_of[0]["text"], vectors[1])


def test_read_item_features_for_none_of_the_items_are_refused(tmp_path: Path) -> None:
    save_features(tmp_path, ["b", "a"])
    with pytest.raises(ValueError, match="has no vector for 2 of 2 items of mine") as error:
        read_item_features({"text": str(tmp_path)}, ["x", "y"], "mine")
    # an option of encoders, which packing does not have
    assert "missing: zeros" not in str(error.value)
