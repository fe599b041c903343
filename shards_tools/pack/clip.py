"""Similarity of frames to titles under a CLIP checkpoint, for policy title.

This is the only module of the packer that imports torch. It reads the checkpoint into memory:
workers may be killed at any time, and would leave copies of a remote one behind.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from mlrec import storage
from mlrec.data.decoders import MAX_TITLE_CHARACTERS
from mlrec.models.encoders.architectures import check_sizes
from mlrec.models.encoders.pixels import Pixels, PixelValues, read_pixels
from mlrec.models.encoders.pretrained import from_tensors, reason_of
from mlrec.models.encoders.weight_files import check_values, read_file
from mlrec.models.encoders.weight_names import Misfit
from mlrec.runtime.printable import printable
from mlrec.runtime.time_limit import paused_time_limit
from mlrec.storage.typed_json import parse_json

FLAG = "--title-checkpoint"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
PIXELS_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
"""File that recent versions of transformers write instead of PIXELS_FILE, with one key more."""
BATCH_IMAGES = 8
"""Images per forward, which bounds the memory of the activations."""
REMEDY = "Download the checkpoint again, or choose another"


class ClipSimilarity:
    """A CLIP model on one thread of the CPU, in fp32."""

    def __init__(self, model: Any, pixels: Pixels, tokenizer: Tokenizer) -> None:
        self.size = pixels.resized
        """Height and width of the images in pixels."""
        self._model = model.eval()
        self._pixel_values = PixelValues(pixels)
        self._tokenizer = tokenizer

    def __call__(self, images: np.ndarray, title: str) -> np.ndarray:
        """Return the similarity of uint8 RGB images [n, size, size, 3] to the title, float [n]."""
        tokens = torch.tensor([self._tokenizer.encode(title[:MAX_TITLE_CHARACTERS]).ids])
        similarities = []
        # the time limit is for damaged videos, and a large model on a slow CPU is none
        with torch.inference_mode(), _one_thread(), paused_time_limit():
            for start in range(0, len(images), BATCH_IMAGES):
                batch = torch.from_numpy(images[start : start + BATCH_IMAGES])
                values = self._pixel_values(batch, torch.float32)
                output = self._model(input_ids=tokens, pixel_values=values)
                # the cosine times a constant
                similarities.append(output.logits_per_image[:, 0])
        return torch.cat(similarities).numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: the number of threads changes sums, and each core has a worker."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def load_similarity(folder: str) -> ClipSimilarity:
    """Load the CLIP model in a folder or at a URL, in Hugging Face's layout.

    Raises:
        ValueError: a file is missing or damaged, or it is another model.
    """
    document = _read_document(folder, CONFIG_FILE)
    kind = document.get("model_type")
    if kind != "clip":
        raise ValueError(
            f"{FLAG} {folder} is a model of type {printable(repr(kind), 40)} by its {CONFIG_FILE}. "
            "Titles and frames are compared by CLIP. Choose a checkpoint of type 'clip'"
        )
    # before anything is built from them
    check_sizes(document, f"{CONFIG_FILE} of {folder}")
    pixels = _load_pixels(folder)
    tokenizer_json = _read(folder, TOKENIZER_FILE)
    weights_url = _existing(folder, WEIGHTS_FILE)
    # transformers, tokenizers and safetensors raise errors of any type for damaged files
    try:
        model = _build(document, weights_url)
        tokenizer = _tokenizer(tokenizer_json, model.config.text_config)
    except Exception as error:
        raise ValueError(
            f"{FLAG} {folder} cannot be loaded ({reason_of(error)}). {REMEDY}"
        ) from error
    return ClipSimilarity(model, pixels.of_size(model.config.vision_config.image_size), tokenizer)


similarity_of = functools.cache(load_similarity)
"""`load_similarity`, once per process."""


def check_checkpoint(folder: str) -> str:
    """Compare a black image with a title, and return the SHA-256 of the weights.

    Raises:
        ValueError: the checkpoint cannot be used.
    """
    similarity = load_similarity(folder)
    black = np.zeros((1, similarity.size, similarity.size, 3), dtype=np.uint8)
    try:
        similarity(black, "a title")
    except Exception as error:
        raise ValueError(
            f"{FLAG} {folder} cannot compare an image with a title ({reason_of(error)}). {REMEDY}"
        ) from error
    return weights_sha256(folder)


def weights_sha256(folder: str) -> str:
    """Return the SHA-256 of a checkpoint's weights, which the Hugging Face hub shows as well.

    Raises:
        ValueError: the file is missing.
    """
    return storage.sha256_of(_existing(folder, WEIGHTS_FILE))


def _build(document: Mapping[str, Any], weights_url: str) -> Any:
    """Return the model with its weights, in fp32.

    Raises:
        ValueError: names or shapes of the weights are not those of the configuration.
    """
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig.from_dict(dict(document))
    with torch.device("meta"):
        expected = CLIPModel(config).state_dict()
    # a local file can be mapped into memory
    source = (
        storage.local_path(weights_url)
        if storage.is_local(weights_url)
        else storage.read_bytes(weights_url)
    )
    tensors = read_file(source, WEIGHTS_FILE)
    check_values(tensors, expected)
    loaded = from_tensors(CLIPModel, config, tensors)
    misfit = Misfit(loaded.missing, loaded.unexpected, loaded.shapes, total=len(expected))
    if misfit:
        raise ValueError(misfit.in_words())
    return loaded.model


def _tokenizer(content: bytes, text_config: Any) -> Tokenizer:
    """Return the tokenizer, which cuts titles to the length that the model reads.

    Raises:
        ValueError: it has more tokens than the model.
    """
    tokenizer = Tokenizer.from_str(content.decode())
    if tokenizer.get_vocab_size() > text_config.vocab_size:
        raise ValueError(
            f"{TOKENIZER_FILE} has {tokenizer.get_vocab_size():,} tokens, and the model "
            f"{text_config.vocab_size:,}"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(text_config.max_position_embeddings)
    return tokenizer


def _load_pixels(folder: str) -> Pixels:
    """Return how the checkpoint prepares images."""
    name = PIXELS_FILE
    if storage.exists(storage.join(folder, PROCESSOR_FILE)):
        content = _read_document(folder, PROCESSOR_FILE).get("image_processor")
        name = PROCESSOR_FILE
    else:
        content = _read_document(folder, PIXELS_FILE)
    where = storage.join(folder, name)
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} does not say how images are prepared. {REMEDY}")
    return read_pixels(content, where, REMEDY)


def _read_document(folder: str, name: str) -> dict[str, Any]:
    return parse_json(_read(folder, name), dict[str, Any], storage.join(folder, name), REMEDY)


def _read(folder: str, name: str) -> bytes:
    return storage.read_bytes(_existing(folder, name))


def _existing(folder: str, name: str) -> str:
    """Return the URL of a file of the checkpoint.

    Raises:
        ValueError: there is no such file.
    """
    url = storage.join(folder, name)
    if not storage.exists(url):
        raise ValueError(
            f"{FLAG} {folder} has no {name}. It takes the folder of a CLIP model with "
            f"{CONFIG_FILE}, {WEIGHTS_FILE}, {TOKENIZER_FILE} and {PIXELS_FILE} or "
            f"{PROCESSOR_FILE}. transformers writes them with save_pretrained"
        )
    return url
