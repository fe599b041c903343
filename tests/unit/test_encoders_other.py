"""Encoders of titles, audio and features."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_encoders import SMALL, TRANSFORMER, media_of

from mlrec.config import ItemConfig
from mlrec.data.titles import tokenize
from mlrec.models.encoders import ENCODERS, Encoder, EncoderContext
from mlrec.models.encoders.audio import HOP, WINDOW, SpectrogramTransformer
from mlrec.models.tower import ItemTower
from mlrec.schema import BYTE_TOKENS, InputSpec, Modality


def build(name: str, **options: object) -> Encoder:
    row = ENCODERS[name].changed(name, options)
    return row.build(row, EncoderContext(16, 50, scratch=False, name=name))


def save_bert(folder: Path) -> None:
    """A BERT of a few words with its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "sings"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(words), **TRANSFORMER)).save_pretrained(folder)


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
    encoder = build("audio/ast", checkpoint="", length=WINDOW + (frames - 1) * HOP, config={**TRANSFORMER, "patch_size": 8})
    assert isinstance(encoder, SpectrogramTransformer)
    generator = np.random.default_rng(0)
    sound = generator.integers(-9000, 9000, samples).astype(np.int16)
    padded = torch.zeros(2, encoder.spec.length, dtype=torch.int16)
    cut = sound[: encoder.spec.length]
    padded[0, : len(cut)] = torch.from_numpy(cut)
    found = encoder.spectrogram(padded)[0]
    if samples < WINDOW:  # no frame: the extractor cannot be asked
        torch.testing.assert_close(found, torch.full_like(found, 4.2677393 / (2 * 4.5689974)))
        return
    extractor = ASTFeatureExtractor(max_length=frames)
    expected = extractor(sound.astype(np.float32) / 2**15, sampling_rate=16000, return_tensors="pt").input_values[0]
    torch.testing.assert_close(found, expected.float(), atol=2e-3, rtol=1e-3)


def save_features(folder: Path, items: list[int], width: int = 4) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(len(items), width)).astype(np.float32)
    folder.mkdir(exist_ok=True)
    np.save(folder / "items.npy", np.array(items))
    np.save(folder / "features.npy", vectors)
    pq.write_table(pa.table({"item": items, "vector": list(vectors)}), folder / "features.parquet")
    return vectors


@pytest.mark.parametrize("file", ["", "/features.parquet"])
def test_features_are_looked_up_and_stay_as_they_are(file: str, tmp_path: Path) -> None:
    vectors = save_features(tmp_path / "features", [7, 2, 50])
    options = {"features/vectors": {"checkpoint": f"{tmp_path}/features{file}"}}
    tower = ItemTower(ItemConfig(encoders=("features/vectors", "id/embedding"), options=options), 16, 50).train()
    (spec, _) = tower.specs
    found = tower.encoders[0](torch.tensor([2, 7, 3]))
    assert torch.equal(found, torch.from_numpy(np.stack([vectors[1], vectors[0], np.zeros(4, np.float32)])))
    tower.encode(media_of(spec, 3), most=3).square().sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())
    assert not any("table" in name for name in tower.state_dict())
    for parameter in tower.parameters():  # as DeepSpeed has it: the table stays in fp32
        parameter.data = parameter.data.bfloat16()
    assert tower(media_of(spec, 3)).dtype is torch.bfloat16


def test_features_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_features(tmp_path / "far", [7, 51])
    with pytest.raises(ValueError, match="items 7 to 51, the data set has items 1 to 50"):
        build("features/vectors", checkpoint=f"{tmp_path}/far")
    with pytest.raises(ValueError, match=r"there are no features at .* and items\.npy, which mlrec extract CONFIG PATH writes"):
        build("features/vectors", checkpoint=f"{tmp_path}/nothing")
    np.save(tmp_path / "far" / "items.npy", np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="features of shape"):
        build("features/vectors", checkpoint=f"{tmp_path}/far")
