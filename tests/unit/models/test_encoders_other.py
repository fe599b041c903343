"""Encoders of titles, audio and features."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from published_checkpoints import save_bert
from small_encoders import SMALL, TRANSFORMER, media_of

from mlrec.config import ItemConfig
from mlrec.data.schema import BYTE_TOKENS, InputSpec, Modality
from mlrec.data.titles import tokenize
from mlrec.models.dropout import RowKind, row_keys
from mlrec.models.encoders import ENCODERS, Encoder, EncoderContext
from mlrec.models.encoders.audio import FRAME_SAMPLES, HOP_SAMPLES, SpectrogramTransformer
from mlrec.models.random_media import random_media
from mlrec.models.tower import ItemTower


def build(name: str, **options: object) -> Encoder:
    row = ENCODERS[name].changed(name, options)
    return row.build(row, EncoderContext(16, 50, scratch=False, name=name))


def test_text_encoder_with_a_checkpoint_uses_its_tokenizer(tmp_path: Path) -> None:
    save_bert(tmp_path)
    encoder = build("text/huggingface", checkpoint=str(tmp_path), length=6).eval()
    assert encoder.spec == InputSpec(Modality.TITLE, length=6, tokenizer=str(tmp_path))
    tokens = tokenize("a cat barks", 6, encoder.spec.tokenizer)
    assert tokens.tolist() == [[2, 4, 5, 1, 3, 0], [1, 1, 1, 1, 1, 0]]
    assert encoder(torch.from_numpy(tokens)[None]).shape == (1, 16)


def test_text_encoder_with_more_padding_gives_the_same_vectors() -> None:
    for name in ("text/bert_tiny", "text/roberta"):
        encoder = build(name, **SMALL[name]).eval()
        short, long = (torch.from_numpy(tokenize("a cat", length, "")) for length in (7, 12))
        torch.testing.assert_close(encoder(short[None]), encoder(long[None]), atol=1e-5, rtol=1e-5)


def test_text_encoder_without_a_checkpoint_reads_bytes() -> None:
    encoder = build("text/bert_small", **SMALL["text/bert_small"])
    assert encoder.spec.tokenizer == ""
    assert encoder.backbone.get_input_embeddings().num_embeddings == BYTE_TOKENS
    assert tokenize("é", 6, "").tolist() == [[1, 3 + 0xC3, 3 + 0xA9, 2, 0, 0], [1, 1, 1, 1, 0, 0]]
    assert tokenize("", 4, "").tolist() == [[1, 2, 0, 0], [1, 1, 0, 0]]
    assert tokenize("long title", 4, "")[0].tolist() == [1, 3 + ord("l"), 3 + ord("o"), 2]


def test_random_media_of_a_small_vocabulary_have_its_tokens_only(tmp_path: Path) -> None:
    save_bert(tmp_path)
    encoder = build("text/embedding_bag", checkpoint=str(tmp_path), length=20)
    titles = random_media(encoder.spec, 4)
    assert int(titles[:, 0].max()) < encoder.embedding.num_embeddings
    assert encoder(titles).shape == (4, encoder.width)


def test_embedding_bag_sums_the_tokens_of_a_title_without_special_ones(tmp_path: Path) -> None:
    save_bert(tmp_path)
    encoder = build("text/embedding_bag", checkpoint=str(tmp_path), length=6)
    titles = [tokenize(title, 6, encoder.spec.tokenizer) for title in ("a cat barks", "")]
    assert titles[0].tolist() == [[2, 4, 5, 1, 3, 0], [1, 1, 1, 1, 1, 0]]
    vectors = encoder(torch.from_numpy(np.stack(titles)))
    table = encoder.embedding.weight
    # token 1 is the unknown word
    torch.testing.assert_close(vectors[0], (table[4] + table[5]) / 2**0.5)
    assert not vectors[1].any()
    options = {"text/embedding_bag": {"checkpoint": str(tmp_path), "length": 6}}
    tower = ItemTower(ItemConfig(("text/embedding_bag",), options), 8, 3)
    assert tower.random_encoders == ["text/embedding_bag"]
    # the encoder's folder rebuilds it without the checkpoint
    for folder in ("run", "empty"):
        (tmp_path / folder).mkdir()
    encoder.save_files(tmp_path / "run")
    row = ENCODERS["text/embedding_bag"].changed("text/embedding_bag", {"length": 6})
    context = EncoderContext(
        16, 50, scratch=False, name="text/embedding_bag", files=tmp_path / "run"
    )
    assert row.build(row, context).embedding.weight.shape == table.shape
    with pytest.raises(ValueError, match=r"text/embedding_bag: the tokenizer .* cannot be loaded"):
        build("text/embedding_bag", checkpoint=str(tmp_path / "empty"))


def test_text_encoder_without_its_tokenizer_names_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"the tokenizer .* cannot be loaded"):
        tokenize("a", 4, f"{tmp_path}/nothing")


@pytest.mark.parametrize("name", ["text/huggingface", "text/embedding_bag"])
def test_checkpoint_without_the_files_of_its_tokenizer_is_refused(
    name: str, tmp_path: Path
) -> None:
    save_bert(tmp_path)
    for path in tmp_path.glob("*token*"):
        path.unlink()
    with pytest.raises(ValueError, match=rf"{name}: the tokenizer .* has no words, only special"):
        build(name, checkpoint=str(tmp_path), length=6)


@pytest.mark.parametrize("samples", [300, 9000, 16000, 40000])
def test_spectrogram_of_any_audio_equals_the_published_extractors(samples: int) -> None:
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
    """Save an audio spectrogram transformer for 4,000 samples, as it is published."""
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
def test_spectrogram_of_a_checkpoint_is_standardized_as_it_states(
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
def test_audio_encoder_with_a_preprocessor_for_other_audio_names_the_key(
    stated: dict[str, object], words: str, tmp_path: Path
) -> None:
    save_ast(tmp_path, **stated)
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json.*{words}"):
        build("audio/ast", checkpoint=str(tmp_path), length=4000)


@pytest.mark.parametrize("recompute", ["always", "never"])
def test_encoder_dropout_in_training_only_leaves_out_some_items(recompute: str) -> None:
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
def test_encoder_option_out_of_bounds_is_named(
    name: str, option: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        build(name, **option)


def test_encoder_dropout_of_the_only_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="id/embedding is the only encoder"):
        ItemTower(ItemConfig(options={"id/embedding": {"dropout": 0.1}}), 16, 50)


def test_projection_without_effect_is_named() -> None:
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
