import json
import shutil
from pathlib import Path

import pytest

from mlrec.data.format import CATALOGUE_FILE, DATASET_FILE, read_catalogue, read_dataset_info


def test_a_folder_without_dataset_json_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a data set.*mlrec-shards make"):
        read_dataset_info(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 99}, "Update mlrec"),
        ({"format": "other"}, "its format is 'other'"),
        ({"media": {}}, r"media\.kind: Field required"),
    ],
)
def test_what_this_version_cannot_read_is_refused(
    dataset_dir: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    content = json.loads((dataset_dir / DATASET_FILE).read_text()) | change
    (tmp_path / DATASET_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        read_dataset_info(str(tmp_path))


def test_a_damaged_catalogue_is_refused(dataset_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    with open(copy / CATALOGUE_FILE, "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"does not have the sha256.*mlrec-shards check"):
        read_catalogue(str(copy), read_dataset_info(str(copy)))
