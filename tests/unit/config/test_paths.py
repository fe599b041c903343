"""The paths of a configuration."""

from pathlib import Path

import pytest

from mlrec.config import load
from mlrec.config.paths import absolute_settings


def test_absolute_settings_are_those_of_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    options = {"video/videomae": {"checkpoint": "weights", "features": "out/features"}}
    options["text/huggingface"] = {"checkpoint": "owner/name"}
    config = load(
        [],
        [
            f"item.encoders=[{', '.join(options)}]",
            f"item.options={options}",
            "data.url=s3://bucket/data",
            "data.cache_dir=~/cache",
        ],
    )
    assert absolute_settings(config) == [
        f"run_dir={tmp_path}/runs/{{name}}",
        f"item.options.video/videomae.checkpoint={tmp_path}/weights",
        f"item.options.video/videomae.features={tmp_path}/out/features",
    ]
    assert (
        load([], ["data.url=b", *absolute_settings(config)[:1]]).run_path
        == config.run_path.absolute()
    )
