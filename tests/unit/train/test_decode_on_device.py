"""Runs whose JPEGs are decoded on the device: the same losses as with the host's decoder."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from decoding import let_cpu_decode
from extracting import ALONE, with_a_damaged_item
from small_encoders import SMALL
from test_training_run import losses, run
from tiny import tiny_overrides

from mlrec.config import Config, load
from mlrec.data.decode import item_bytes
from mlrec.data.features.info import VECTORS_FILE
from mlrec.data.media import device_jpeg
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import open_data
from mlrec.evaluation.extract import extract
from mlrec.evaluation.results import read_results
from mlrec.evaluation.run_evaluation import evaluate_run
from mlrec.runs.run import load_run
from mlrec.runtime.distributed import World
from mlrec.train.dry_run import predict

PLACES: tuple[Literal["host", "device"], ...] = ("host", "device")
NAMES = ("video/tiny", "video/image_frames", "image/vit_mae", "text/bert_tiny")
OPTIONS = {
    **{name: SMALL[name] for name in NAMES},
    # Of 5 stored frames, 3 are read twice. All images have the stored size, because the device
    # rounds scaled pixels in another way.
    "video/tiny": {**SMALL["video/tiny"], "frames": 8},
}
"""Encoders of 8 frames, of 2 frames, of covers, and of no JPEGs."""


def config_of(
    dataset_dir: Path, folder: Path, names: tuple[str, ...] = NAMES, *overrides: str
) -> Config:
    config = load([], [*tiny_overrides(dataset_dir, folder), "train.duration=4 steps", *overrides])
    options = {name: OPTIONS[name] for name in names}
    item = replace(config.item, encoders=names, options=options)  # type: ignore[arg-type]
    return replace(config, item=item)


def with_decode_on(config: Config, place: Literal["host", "device"]) -> Config:
    return replace(config, name=place, data=replace(config.data, decode_on=place))


def assert_runs_are_equal(config: Config) -> None:
    """Check that losses and rankings do not depend on where JPEGs are decoded."""
    on_host = with_decode_on(config, "host")
    on_device = with_decode_on(config, "device")
    run(on_host)
    run(on_device)
    assert len(losses(on_host.run_path)) == 4
    assert losses(on_device.run_path) == losses(on_host.run_path)
    results = read_results(on_device.run_path)
    assert results.metrics == read_results(on_host.run_path).metrics
    assert results.bad_items == read_results(on_host.run_path).bad_items


@pytest.mark.parametrize("num_workers", [0, 2])
def test_run_that_decodes_on_the_device_has_the_losses_of_the_host(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    let_cpu_decode(monkeypatch)
    decoded_in: list[int] = []
    decode = device_jpeg.DEVICE_DECODERS["cpu"]

    def counting(jpegs, device):  # type: ignore[no-untyped-def]
        decoded_in.append(len(jpegs))
        return decode(jpegs, device)

    monkeypatch.setitem(device_jpeg.DEVICE_DECODERS, "cpu", counting)
    config = config_of(dataset_dir, tmp_path)
    config = with_a_damaged_item(dataset_dir, config, tmp_path)
    config = replace(config, data=replace(config.data, num_workers=num_workers))
    assert_runs_are_equal(config)
    assert list(read_results(tmp_path / "device").bad_items) == [5]
    # 8 items a chunk, of 5 frames, 2 frames, or a cover
    assert max(decoded_in) == 40 and 16 in decoded_in and 8 in decoded_in


def test_run_with_cached_activations_has_the_losses_of_the_host(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_cpu_decode(monkeypatch)
    names = ("video/image_frames", "image/vit_mae")
    config = config_of(dataset_dir, tmp_path, names, "item.tuning=top", "data.num_workers=2")
    assert_runs_are_equal(config)


def test_train_with_decode_on_device_without_a_gpu_fails_before_the_first_step(
    dataset_dir: Path, tmp_path: Path
) -> None:
    config = with_decode_on(config_of(dataset_dir, tmp_path, ("video/tiny",)), "device")
    with pytest.raises(ValueError, match=r"only on a GPU\. Set data\.decode_on=host"):
        run(config)
    assert not config.run_path.exists()


def test_trained_on_device_is_ranked_on_the_host_of_a_machine_without_a_gpu(
    dataset_dir: Path,
    tmp_path: Path,
    world: World,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = with_decode_on(config_of(dataset_dir, tmp_path, ("video/tiny",)), "device")
    with pytest.MonkeyPatch.context() as patch:
        let_cpu_decode(patch)
        run(config)
    expected = read_results(config.run_path).metrics
    trained = load_run(config.run_path)
    assert trained.data.decode_on == "device"
    caplog.clear()
    data = open_data(trained.data)
    results = evaluate_run(trained, data, world, "test")
    assert results.metrics == expected
    warnings = [record for record in caplog.records if "decoded on the host" in record.getMessage()]
    assert len(warnings) == 1


def test_dry_run_of_decode_on_device_states_the_memory_of_jpegs(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(dataset_dir, tmp_path, ("video/tiny",), "data.num_workers=2")
    with pytest.raises(ValueError, match="JPEGs cannot be decoded on the device cpu"):
        predict(with_decode_on(config, "device"), 1)
    let_cpu_decode(monkeypatch)
    on_host = predict(with_decode_on(config, "host"), 1)
    on_device = predict(with_decode_on(config, "device"), 1)
    pixels = item_bytes([InputSpec(Modality.VIDEO, frames=8, size=32)])
    names = [f"{frame}.jpg" for frame in range(5)]
    slots = 5 * (4 + on_device.data.catalogue.largest_member(names))
    assert slots < pixels
    host_loader = on_host.forecast.host.loader
    device_loader = on_device.forecast.host.loader
    assert device_loader.media * pixels == host_loader.media * slots
    assert device_loader.chunks * pixels == host_loader.chunks * slots


def test_extract_that_decodes_on_the_device_has_the_vectors_of_the_host(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_cpu_decode(monkeypatch)
    config = config_of(dataset_dir, tmp_path, ("video/tiny",))
    vectors = []
    for place in PLACES:
        extract(with_decode_on(config, place), str(tmp_path / f"{place}_features"), ALONE)
        vectors.append((tmp_path / f"{place}_features" / VECTORS_FILE).read_bytes())
    assert vectors[0] == vectors[1]
    # an extraction that was begun on the host is not continued on the device
    with pytest.raises(ValueError, match=r"another extraction \(decoded_on_device changed\)"):
        extract(with_decode_on(config, "device"), str(tmp_path / "host_features"), ALONE)
