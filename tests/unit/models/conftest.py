"""A small VideoMAE checkpoint, shared by the tests of encoders."""

import shutil
from pathlib import Path

import pytest
from published_checkpoints import IMAGE, save_model


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    save_model(folder, "VideoMAE", "VideoMAEModel", num_frames=4, **IMAGE)
    return folder


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))
