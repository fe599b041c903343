"""Extracted features: lookup by raw id, whitening, and projections."""

from pathlib import Path

import numpy as np
import pytest
import torch
from features import item_ids, numbered, save_features
from small_encoders import SMALL

from mlrec.config import ItemConfig
from mlrec.models.encoder_files import restored_from, save_encoder_files
from mlrec.models.encoders import encoder_row
from mlrec.models.encoders.heads import Whitening
from mlrec.models.tower import ItemTower


@pytest.mark.parametrize("file", ["", "/features.parquet"])
def test_features_encoder_looks_up_raw_ids_and_stays_frozen(file: str, tmp_path: Path) -> None:
    vectors = save_features(tmp_path / "features", ["c", "a", "z", "b"])
    options = {"features/vectors": {"checkpoint": f"{tmp_path}/features{file}"}}
    item = ItemConfig(encoders=("features/vectors", "id/embedding"), options=options)
    tower = ItemTower(
        item, 16, 4, items=item_ids(["a", "b", None, "c"], fingerprint="1" * 64)
    ).train()
    (spec, _) = tower.specs
    looked_up = tower.encoders[0](torch.tensor([1, 2, 3, 4]))
    assert torch.equal(
        looked_up,
        torch.from_numpy(np.stack([vectors[1], vectors[3], np.zeros(4, np.float32), vectors[0]])),
    )
    remarks = [
        f"features/vectors: {tmp_path}/features{file} was made of another packing or data set "
        "(tiny, fingerprint",
        f"features/vectors: 1 of 4 vectors in {tmp_path}/features{file} belong to no item "
        "of the data set",
    ]
    assert len(tower.encoders[0].remarks) == len(remarks)
    assert all(map(str.startswith, tower.encoders[0].remarks, remarks))
    tower.encode({spec: torch.tensor([1, 2, 4])}, most=3).square().sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())
    assert not any("table" in name for name in tower.state_dict())
    for parameter in tower.parameters():  # as DeepSpeed has it: the table stays in fp32
        parameter.data = parameter.data.bfloat16()
    assert tower({spec: torch.tensor([1, 2, 4])}).dtype is torch.bfloat16


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.mark.parametrize(("power", "linear"), [(1.0, True), (0.5, False)])
def test_whitening_of_rotated_vectors_gives_the_same_angles(power: float, linear: bool) -> None:
    draw = np.random.default_rng(0).normal
    vectors, change = draw(size=(200, 6)) * [9, 3, 1, 1, 0.5, 0.1], draw(size=(6, 6))
    if (
        not linear
    ):  # of which the square root of a variance depends on lengths, but not on directions
        change = np.linalg.qr(change)[0]
    moved = vectors @ change + draw(size=6)
    whitened, again = (
        Whitening(given, power)(torch.from_numpy(given).float()) for given in (vectors, moved)
    )
    torch.testing.assert_close(whitened @ whitened.T, again @ again.T, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(whitened.norm(dim=1), torch.ones(200))


def test_whitening_of_equal_vectors_is_finite() -> None:
    assert not Whitening(np.full((5, 3), 7.0), 1.0)(
        torch.full((5, 3), 7.0)
    ).any()  # the mean is no direction
    few = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    corners = Whitening(few, 1.0)(torch.from_numpy(few))
    expected = (4 * torch.eye(4) - 1) / 3  # of a tetrahedron: all alike
    torch.testing.assert_close(corners @ corners.T, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_projection_before_training_preserves_the_angles_of_features(
    projection: str, tmp_path: Path
) -> None:
    vectors = torch.from_numpy(save_features(tmp_path / "features", [3, 2, 1], width=16))
    options: dict[str, object] = {"checkpoint": f"{tmp_path}/features", "projection": projection}
    for whiten, expected in ((0.0, vectors), (0.5, Whitening(vectors.numpy(), 0.5)(vectors))):
        item = ItemConfig(
            encoders=("features/vectors",),
            options={"features/vectors": {**options, "whiten": whiten}},
        )
        tower = ItemTower(item, 16, 3, items=numbered(3))
        item_vectors = tower.eval()({tower.specs[0]: torch.tensor([3, 2, 1])})
        angles = unit(item_vectors) @ unit(item_vectors).T
        torch.testing.assert_close(angles, unit(expected) @ unit(expected).T, atol=1e-4, rtol=1e-4)
        angles.sum().backward()


def test_whitening_of_an_encoder_uses_its_extracted_features(tmp_path: Path) -> None:
    vectors = save_features(tmp_path / "features", ["x", 3, 1, 2], width=16)
    options = {**SMALL["text/bert_tiny"], "whiten": 1.0, "projection": "linear"}
    with pytest.raises(
        ValueError,
        match=r"text/bert_tiny\.features is not set. Set it to the folder that mlrec extract wrote",
    ):
        ItemTower(
            ItemConfig(("text/bert_tiny",), {"text/bert_tiny": options}), 8, 3, items=numbered(3)
        )
    options["features"] = f"{tmp_path}/features"
    tower = ItemTower(
        ItemConfig(("text/bert_tiny",), {"text/bert_tiny": options}), 8, 3, items=numbered(3)
    )
    torch.testing.assert_close(tower.heads[0][0].mean, torch.from_numpy(vectors[1:]).mean(dim=0))
    assert {name for name in tower.state_dict() if "heads" in name} > {
        "heads.0.0.mean",
        "heads.0.0.matrix",
    }
    with pytest.raises(
        ValueError, match=r"text/bert_tiny\.features has no effect because whiten=0"
    ):
        ItemTower(
            ItemConfig(("text/bert_tiny",), {"text/bert_tiny": {**options, "whiten": 0.0}}),
            8,
            3,
            items=numbered(3),
        )
    save_features(tmp_path / "features", [1, 2, 3], width=4)
    with pytest.raises(
        ValueError,
        match=r"features of 4 values per item, and text/bert_tiny gives 16\. Extract them by "
        "text/bert_tiny with the same checkpoint, tuning, side.every and pooling",
    ):
        ItemTower(
            ItemConfig(("text/bert_tiny",), {"text/bert_tiny": options}), 8, 3, items=numbered(3)
        )


def test_features_of_any_name_are_fused_and_rebuilt_from_saved_files(tmp_path: Path) -> None:
    draw = np.random.default_rng(0).normal
    arrays = {"text": draw(size=(3, 4)), "image": draw(size=(3, 5)), "video": draw(size=(3, 6))}
    options = {}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array.astype(np.float32))
        options[f"features/{name}"] = {"checkpoint": f"{tmp_path}/{name}.npy"}
    options["features/text"] |= {"whiten": 0.5, "projection": "linear"}
    item = ItemConfig(encoders=tuple(options), options=options, fusion="concat")
    torch.manual_seed(0)
    tower = ItemTower(item, 8, 3, items=numbered(3)).eval()
    assert [encoder.width for encoder in tower.encoders] == [4, 5, 6]
    save_encoder_files(tmp_path, tower)
    for name in arrays:
        (tmp_path / f"{name}.npy").unlink()
    torch.manual_seed(0)
    restored = restored_from(tmp_path, item.encoders)
    rebuilt = ItemTower(item, 8, 3, restored, items=numbered(3)).eval()
    items = {tower.specs[0]: torch.tensor([1, 2, 3])}
    assert torch.equal(tower(items), rebuilt(items))


def test_features_of_missing_items_are_an_error_or_zeros(tmp_path: Path) -> None:
    vectors = save_features(tmp_path / "features", [1, 3])
    options: dict[str, object] = {"checkpoint": f"{tmp_path}/features"}
    with pytest.raises(ValueError, match=r"no vector for 1 of 3 items of tiny .* missing: z"):
        ItemTower(ItemConfig(("features/a",), {"features/a": options}), 8, 3, items=numbered(3))
    options["missing"] = "zeros"
    item = ItemConfig(("features/a",), {"features/a": options})
    tower = ItemTower(item, 8, 3, items=numbered(3))
    expected = torch.from_numpy(np.stack([vectors[0], np.zeros(4, np.float32), vectors[1]]))
    assert torch.equal(tower.encoders[0](torch.tensor([1, 2, 3])), expected)
    assert any(
        remark.startswith("features/a: 1 of 3 items have no vector in")
        for remark in tower.encoders[0].remarks
    )
    with pytest.raises(ValueError, match="no vector for 2 of 2 items"):
        ItemTower(item, 8, 2, items=item_ids(["x", "y"]))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("feature/text", {}, "unknown encoder 'feature/text'; did you mean 'features/vectors'"),
        ("features/a b", {}, "unknown encoder 'features/a b'"),
        ("features/text", {"mising": "zeros"}, "item.options.features/text.mising: unknown option"),
        ("features/text", {"missing": "nil"}, "item.options.features/text.missing"),
        ("id/embedding", {"missing": "zeros"}, "item.options.id/embedding.missing has no effect"),
    ],
)
def test_encoder_row_refuses_names_and_options_that_do_not_fit(
    name: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        encoder_row(name, options)


ROWS = ("stage 0", "stage 1", "stage 2")


def tower_of_rows(folder: Path, **options: object) -> ItemTower:
    """Build the item tower of three items whose features have several vectors."""
    features = {"checkpoint": str(folder), "projection": "linear", **options}
    item = ItemConfig(encoders=("features/stages",), options={"features/stages": features})
    return ItemTower(item, 4, 3, items=numbered(3))


@pytest.mark.parametrize("file", ["", "/features.parquet"])
def test_features_with_several_vectors_are_averaged_by_default(file: str, tmp_path: Path) -> None:
    vectors = save_features(tmp_path, [3, 1, 2], rows=ROWS)
    tower = tower_of_rows(Path(f"{tmp_path}{file}"))
    (encoder,) = tower.encoders
    assert encoder.table.dtype == torch.float16
    assert len(encoder.rows) == 3
    assert not any("table" in name for name in tower.state_dict())
    item_vectors = tower({tower.specs[0]: torch.tensor([3, 1, 2])})
    expected = torch.from_numpy(vectors).float().mean(dim=1)
    torch.testing.assert_close(item_vectors, expected)


def test_features_with_several_vectors_learn_a_mix_that_starts_as_the_mean(tmp_path: Path) -> None:
    save_features(tmp_path, [1, 2, 3], rows=ROWS)
    items = torch.tensor([1, 3])
    mean = tower_of_rows(tmp_path)
    mix = tower_of_rows(tmp_path, pooling="mix")
    item_vectors = mix({mix.specs[0]: items})
    torch.testing.assert_close(item_vectors, mean({mean.specs[0]: items}))
    item_vectors.square().sum().backward()
    trained = {name for name, value in mix.named_parameters() if value.grad is not None}
    assert trained == {"heads.0.0.logits", "heads.0.1.weight"}


def test_whitening_of_several_vectors_whitens_each(tmp_path: Path) -> None:
    vectors = save_features(tmp_path, [1, 2, 3], rows=ROWS)
    tower = tower_of_rows(tmp_path, whiten=0.75)
    parts = []
    for row in range(3):
        of_row = vectors[:, row].astype(np.float32)
        parts.append(Whitening(of_row, 0.75)(torch.from_numpy(of_row)))
    expected = torch.stack(parts).mean(dim=0)
    item_vectors = tower({tower.specs[0]: torch.tensor([1, 2, 3])})
    torch.testing.assert_close(item_vectors, expected)
    run = tmp_path / "run"
    run.mkdir()
    save_encoder_files(run, tower)
    for file in tmp_path.glob("features*"):
        file.unlink()
    restored = restored_from(run, ["features/stages"])
    options = {"checkpoint": str(tmp_path), "projection": "linear", "whiten": 0.75}
    item = ItemConfig(encoders=("features/stages",), options={"features/stages": options})
    rebuilt = ItemTower(item, 4, 3, restored, items=numbered(3))
    torch.testing.assert_close(rebuilt({tower.specs[0]: torch.tensor([1, 2, 3])}), expected)


def test_pooling_of_one_vector_per_item_is_refused(tmp_path: Path) -> None:
    save_features(tmp_path, [1, 2, 3])
    with pytest.raises(ValueError, match=r"features/stages\.pooling has no effect, because"):
        tower_of_rows(tmp_path, pooling="mean")
