"""Encoders of titles, audio and features."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import save_bert
from features import item_ids, numbered, save_features
from small_encoders import SMALL, TRANSFORMER, media_of

from mlrec.config import ItemConfig
from mlrec.data.schema import BYTE_TOKENS, InputSpec, Modality
from mlrec.data.titles import tokenize
from mlrec.models.dropout import RowKind, row_keys
from mlrec.models.encoders import ENCODERS, Encoder, EncoderContext
from mlrec.models.encoders.audio import FRAME_SAMPLES, HOP_SAMPLES, SpectrogramTransformer
from mlrec.models.encoders.heads import Whitening
from mlrec.models.tower import ItemTower


def build(name: str, **options: object) -> Encoder:
    row = ENCODERS[name].changed(name, options)
    return row.build(row, EncoderContext(16, 50, scratch=False, name=name))


def test_a_title_is_read_with_the_tokenizer_of_the_checkpoint(tmp_path: Path) -> None:
    save_bert(tmp_path)
    encoder = build("text/huggingface", checkpoint=str(tmp_path), length=6).eval()
    assert encoder.spec == InputSpec(Modality.TITLE, length=6, tokenizer=str(tmp_path))
    tokens = tokenize("a cat barks", 6, encoder.spec.tokenizer)
    assert tokens.tolist() == [[2, 4, 5, 1, 3, 0], [1, 1, 1, 1, 1, 0]]
    assert encoder(torch.from_numpy(tokens)[None]).shape == (1, 16)


def test_padding_does_not_change_a_title() -> None:
    for name in ("text/bert_tiny", "text/roberta"):
        encoder = build(name, **SMALL[name]).eval()
        short, long = (torch.from_numpy(tokenize("a cat", length, "")) for length in (7, 12))
        torch.testing.assert_close(encoder(short[None]), encoder(long[None]), atol=1e-5, rtol=1e-5)


def test_without_a_checkpoint_the_tokens_are_bytes() -> None:
    encoder = build("text/bert_small", **SMALL["text/bert_small"])
    assert encoder.spec.tokenizer == ""
    assert encoder.backbone.get_input_embeddings().num_embeddings == BYTE_TOKENS
    assert tokenize("é", 6, "").tolist() == [[1, 3 + 0xC3, 3 + 0xA9, 2, 0, 0], [1, 1, 1, 1, 0, 0]]
    assert tokenize("", 4, "").tolist() == [[1, 2, 0, 0], [1, 1, 0, 0]]
    assert tokenize("long title", 4, "")[0].tolist() == [1, 3 + ord("l"), 3 + ord("o"), 2]


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"the tokenizer .* cannot be loaded"):
        tokenize("a", 4, f"{tmp_path}/nothing")


@pytest.mark.parametrize("samples", [300, 9000, 16000, 40000])
def test_the_spectrogram_is_that_of_the_published_extractor(samples: int) -> None:
    from transformers import ASTFeatureExtractor

    frames = 99
    encoder = build(
        "audio/ast",
        checkpoint="",
        length=FRAME_SAMPLES + (frames - 1) * HOP_SAMPLES,
        config={**TRANSFORMER, "patch_size": 8},
    )
    assert isinstance(encoder, SpectrogramTransformer)
    generator = np.random.default_rng(0)
    sound = generator.integers(-9000, 9000, samples).astype(np.int16)
    padded = torch.zeros(2, encoder.spec.length, dtype=torch.int16)
    cut = sound[: encoder.spec.length]
    padded[0, : len(cut)] = torch.from_numpy(cut)
    spectrogram = encoder.spectrogram(padded)[0]
    if samples < FRAME_SAMPLES:  # no frame: the extractor cannot be asked
        torch.testing.assert_close(
            spectrogram, torch.full_like(spectrogram, 4.2677393 / (2 * 4.5689974))
        )
        return
    extractor = ASTFeatureExtractor(max_length=frames)
    expected = extractor(
        sound.astype(np.float32) / 2**15, sampling_rate=16000, return_tensors="pt"
    ).input_values[0]
    torch.testing.assert_close(spectrogram, expected.float(), atol=2e-3, rtol=1e-3)


def save_ast(folder: Path, **preprocessor: object) -> None:
    """A published audio spectrogram transformer for 4,000 samples, with the statement of its preprocessor."""
    from transformers import ASTConfig, ASTModel

    frames = 1 + (4000 - FRAME_SAMPLES) // HOP_SAMPLES
    ASTModel(
        ASTConfig(max_length=frames, num_mel_bins=32, patch_size=8, **TRANSFORMER)
    ).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


@pytest.mark.parametrize(
    ("stated", "mean", "scale"),
    [
        ({"mean": -1.0, "std": 2.0}, -1.0, 4.0),
        ({"mean": -1.0, "std": 2.0, "do_normalize": False}, 0.0, 1.0),
        ({}, -4.2677393, 9.1379948),
    ],
)
def test_sounds_are_standardised_as_the_checkpoint_says(
    stated: dict[str, object], mean: float, scale: float, tmp_path: Path
) -> None:
    save_ast(tmp_path, **stated)
    loudness = build("audio/ast", checkpoint=str(tmp_path), length=4000).loudness
    assert (loudness.mean, loudness.scale) == pytest.approx((mean, scale))


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"sampling_rate": 44100}, "sampling_rate is 44100, and audio/ast reads audio with 16000"),
        ({"max_length": 1024}, "max_length is 1024"),
        ({"num_mel_bins": 64}, "num_mel_bins is 64"),
        ({"std": 0}, "std is 0"),
        ({"mean": None}, "mean is None"),
    ],
)
def test_a_preprocessor_of_other_sounds_is_named(
    stated: dict[str, object], words: str, tmp_path: Path
) -> None:
    save_ast(tmp_path, **stated)
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json.*{words}"):
        build("audio/ast", checkpoint=str(tmp_path), length=4000)


@pytest.mark.parametrize("file", ["", "/features.parquet"])
def test_features_are_looked_up_by_raw_id_and_stay_as_they_are(file: str, tmp_path: Path) -> None:
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
        f"features/vectors: {tmp_path}/features{file} was made of another packing or data set (tiny, fingerprint",
        f"features/vectors: 1 of 4 vectors in {tmp_path}/features{file} belong to no item of the data set",
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
def test_whitened_vectors_do_not_depend_on_the_axes_they_came_in(
    power: float, linear: bool
) -> None:
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


def test_whitening_leaves_what_does_not_differ() -> None:
    assert not Whitening(np.full((5, 3), 7.0), 1.0)(
        torch.full((5, 3), 7.0)
    ).any()  # the mean is no direction
    few = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    corners = Whitening(few, 1.0)(torch.from_numpy(few))
    expected = (4 * torch.eye(4) - 1) / 3  # of a tetrahedron: all alike
    torch.testing.assert_close(corners @ corners.T, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_the_angles_between_items_are_those_of_their_features_at_first(
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


def test_an_encoder_is_whitened_by_what_was_extracted_of_it(tmp_path: Path) -> None:
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
        match="features of width 4, and text/bert_tiny gives 16: they are of another encoder",
    ):
        ItemTower(
            ItemConfig(("text/bert_tiny",), {"text/bert_tiny": options}), 8, 3, items=numbered(3)
        )


@pytest.mark.parametrize("recompute", ["always", "never"])
def test_an_encoder_is_left_out_for_some_items_in_training_alone(recompute: str) -> None:
    torch.manual_seed(0)
    options = {"id/embedding": {"dropout": 0.5}, "text/bert_tiny": SMALL["text/bert_tiny"]}
    names = ("text/bert_tiny", "id/embedding")
    tower = ItemTower(
        ItemConfig(names, options, tuning="frozen", checkpoint=recompute), 16, 50
    ).train()
    media = {spec: media_of(spec, 50)[spec] for spec in tower.specs}
    media[tower.specs[1]] = torch.arange(1, 51)
    title = torch.cat(
        [tower.heads[0](tower.encoders[0](rows)) for rows in media[tower.specs[0]].split(8)]
    )
    keys_O = row_keys(RowKind.TOWER_ITEMS, torch.arange(1, 51), seed=0, step=3)
    fused = tower.encode(media, most=50, keys_O=keys_O)
    left_out = (fused - title).abs().amax(dim=1) < 1e-5
    assert 10 < left_out.sum() < 40
    tower.chunk = 7
    assert torch.allclose(tower.encode(media, most=50, keys_O=keys_O), fused, atol=1e-5), (
        "chunks do not matter"
    )
    fused.sum().backward()
    gradient = tower.encoders[1].embedding.weight.grad[1:]
    assert torch.equal(gradient.abs().amax(dim=1) == 0, left_out)
    tower.eval()
    torch.testing.assert_close(
        tower.encode(media, most=50), title + tower.encoders[1].embedding.weight[1:]
    )


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        (
            "id/embedding",
            {"projection": "relu"},
            "projection is 'relu'; it must be one of gelu, linear, mlp",
        ),
        ("id/embedding", {"dropout": 1.0}, "dropout is 1.0; it must be a number from 0 to below 1"),
        (
            "video/tiny",
            {"whiten": 2},
            r"item\.options\.video/tiny\.whiten is 2; it must be a number from 0 to 1",
        ),
    ],
)
def test_an_option_that_is_none_is_named(name: str, option: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(name, **option)


def test_the_only_encoder_is_not_left_out() -> None:
    with pytest.raises(ValueError, match="id/embedding is the only encoder"):
        ItemTower(ItemConfig(options={"id/embedding": {"dropout": 0.1}}), 16, 50)


def test_a_projection_of_nothing_is_named() -> None:
    """A table of the recommender's width is not projected; of another width it is."""
    with pytest.raises(
        ValueError,
        match=r"item\.options\.id/embedding\.projection='linear' has no effect",
    ):
        ItemTower(ItemConfig(options={"id/embedding": {"projection": "linear"}}), 16, 50)
    tower = ItemTower(
        ItemConfig(options={"id/embedding": {"projection": "linear", "width": 8}}), 16, 50
    )
    assert isinstance(tower.heads[0], torch.nn.Linear)
