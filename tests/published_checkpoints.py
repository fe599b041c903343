"""Checkpoint folders as published for Hugging Face models, with small random weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from small_encoders import TRANSFORMER

from mlrec.models.encoders import ENCODERS, Encoder, EncoderContext

Tensors = dict[str, torch.Tensor]


IMAGE = {"image_size": 32, "patch_size": 8, **TRANSFORMER}


NORMALIZE = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True}


def build(name: str, **options: Any) -> Any:
    row = ENCODERS[name].changed(name, options)
    return row.build(row, EncoderContext(16, 50, scratch=False, name=name)).eval()


def save_model(folder: Path, kind: str, model_class: str, **config: Any) -> Any:
    """A published model with random weights, and its preprocessor."""
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, f"{kind}Config")(**config))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(NORMALIZE))
    return model


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor.contiguous() for name, tensor in change(dict(weights)).items()},
        folder / "model.safetensors",
    )


def video(folder: Path, **options: Any) -> Encoder:
    encoder: Encoder = build(
        "video/videomae", checkpoint=str(folder), **{"frames": 4, "size": 32, **options}
    )
    return encoder


def same_weights(one: Encoder, other: Encoder) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def to_shards(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    shards = {
        name: f"model-0000{place % 2 + 1}-of-00002.safetensors"
        for place, name in enumerate(sorted(weights))
    }
    for shard in set(shards.values()):
        save_file(
            {name: weights[name] for name in weights if shards[name] == shard}, folder / shard
        )
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": shards})
    )
    (folder / "model.safetensors").unlink()


FIRST = "embeddings.patch_embeddings.projection.weight"


def save_bert(folder: Path) -> None:
    """A BERT of a few words with its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {
        word: index
        for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "sings"])
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(words), **TRANSFORMER)).save_pretrained(folder)


def save_clip(folder: Path) -> None:
    """A CLIP model of a few words with its tokenizer and preprocessor."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "a", "red", "blue", "car", "sky", "[BOS]", "[EOS]"]
    vocabulary = {word: token for token, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 7), ("[EOS]", 8)]
    )
    text = {"vocab_size": len(words), "max_position_embeddings": 8, **TRANSFORMER}
    text |= {"bos_token_id": 7, "eos_token_id": 8, "pad_token_id": 0}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=text, vision_config=IMAGE, projection_dim=8, initializer_factor=20.0
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps(NORMALIZE))
