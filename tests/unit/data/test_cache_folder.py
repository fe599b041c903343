from pathlib import Path

import pytest

from mlrec.data.cache_folder import checked_cache_dir


@pytest.mark.parametrize(
    ("place", "relation"),
    [
        ("data", "is"),
        ("data/items", "lies in"),
        ("data/new/cache", "lies in"),
        (".", "holds"),
        ("link", "is"),
        ("link/x", "lies in"),
    ],
)
@pytest.mark.parametrize("kind", ["data set", "run"])
@pytest.mark.parametrize("is_remote", [False, True])
def test_cache_dir_related_to_a_data_set_or_a_run_is_refused(
    tmp_path: Path, place: str, relation: str, kind: str, is_remote: bool
) -> None:
    data = tmp_path / "data"
    (data / "items").mkdir(parents=True)
    for name in {
        "data set": ["dataset.json", "catalogue.parquet"],
        "run": ["config.yaml", "run.json"],
    }[kind]:
        (data / name).touch()
    (tmp_path / "link").symlink_to(data)
    url = "s3://bucket/data" if is_remote else str(tmp_path.parent / "elsewhere" / "data")
    with pytest.raises(
        ValueError,
        match=rf"data\.cache_dir: \S+ {relation} the {kind} \S*/data\. .*Choose another folder",
    ):
        checked_cache_dir(tmp_path / place, url)
    assert checked_cache_dir(tmp_path / "other" / "cache", url) == tmp_path / "other" / "cache"


def test_cache_dir_around_the_data_set_that_it_caches_is_refused(dataset_dir: Path) -> None:
    for folder in (dataset_dir, dataset_dir.parent, dataset_dir / "x"):
        with pytest.raises(ValueError, match=r"data\.cache_dir"):
            checked_cache_dir(folder, str(dataset_dir))
