"""Pretrained weights of any model, from the Hugging Face hub or a folder or file on any storage."""

from __future__ import annotations

import functools
import pickle
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mlrec import storage
from mlrec.models.encoders.base import EncoderContext, EncoderRow
from mlrec.models.encoders.weight_files import check_values, read_file, read_folder
from mlrec.models.encoders.weight_names import Misfit, ShapePair, backbone_of, is_head
from mlrec.runtime.printable import brief

WEIGHTS = (".safetensors", ".pyth", ".pth", ".pt", ".bin")
"""Endings of files that hold weights."""
_PATHS = ("/", ".", "~", "file://")
"""Prefixes of paths; anything else may be a name at the hub."""
UPDATE_COUNTER = "num_batches_tracked"
"""Name of a batch norm's counter, which files of old torch versions lack and nothing reads."""
MAX_REASON_CHARACTERS = 200
"""Upper bound of the length of a library's error in a message."""
MAX_MISSING_BYTES = 256 << 20
"""Bytes of fp32 tensors that a checkpoint may lack before loading stops without comparing names.
transformers would allocate them."""
_copies: list[tempfile.TemporaryDirectory[str]] = []
"""Local copies of remote folders, deleted when the process exits."""


class MisfitError(ValueError):
    """A checkpoint's tensors are not those of the model."""


@functools.cache
def local_folder(checkpoint: str) -> str:
    """Return a local path or hub name as it is, or a local copy of the folder at a URL.

    The copy is made once per process, because `find_file` and others ask for it again.

    Raises:
        ValueError: there is no such folder.
    """
    if storage.is_local(checkpoint):
        path = storage.local_path(checkpoint)
        if checkpoint.startswith(_PATHS) and not path.exists():
            raise ValueError(f"there is no folder {path}")
        return str(path)
    # subfolders hold other formats of the same weights, such as onnx
    files = [name for name in storage.list_files(checkpoint) if "/" not in name]
    if not files:
        raise ValueError(
            f"there is no checkpoint at {checkpoint}; give the URL of a folder that holds "
            "config.json and the weights"
        )
    copy = tempfile.TemporaryDirectory(prefix="mlrec-checkpoint-")
    # the folder is deleted with this object, but transformers reads from it later
    _copies.append(copy)
    for name in files:
        (Path(copy.name) / name).write_bytes(storage.read_bytes(storage.join(checkpoint, name)))
    return copy.name


def is_on_this_machine(checkpoint: str) -> bool:
    """Return whether a checkpoint is a path, or may be meant as one, and not a hub name or URL."""
    if not storage.is_local(checkpoint):
        return False
    return checkpoint.startswith(_PATHS) or storage.local_path(checkpoint).exists()


def find_file(checkpoint: str, name: str) -> Path | None:
    """Return the path of a file of a checkpoint, or None if it has no such file.

    Raises:
        OSError: the hub cannot be reached.
    """
    folder = Path(local_folder(checkpoint))
    if folder.exists():
        return folder / name if (folder / name).is_file() else None
    from transformers.utils.hub import cached_file

    # None if the repository has no such file; raises if the hub cannot be reached
    path = cached_file(str(folder), name, _raise_exceptions_for_missing_entries=False)
    return Path(path) if path else None


@contextmanager
def explained(checkpoint: str, encoder: str) -> Iterator[None]:
    """Turn errors of Hugging Face's loaders into one sentence that says what to do.

    Raises:
        ValueError: the checkpoint does not exist or cannot be read.
    """
    try:
        yield
    # its message is complete
    except MisfitError:
        raise
    except Exception as error:
        # for a damaged file, transformers and tokenizers raise errors of any type
        raise ValueError(
            f"the checkpoint {checkpoint!r} of {encoder} cannot be loaded ({reason_of(error)}); "
            f"{_remedy(checkpoint, encoder)}"
        ) from error


def _remedy(checkpoint: str, encoder: str) -> str:
    option = f"item.options.{encoder}.checkpoint"
    scratch = "start from random weights with item.tuning=scratch"
    if "://" in checkpoint or checkpoint.endswith(WEIGHTS):
        return f"download it on a machine with network and set {option}=FILE, or {scratch}"
    if checkpoint.startswith(_PATHS) or storage.local_path(checkpoint).exists():
        return f"set {option} to a folder or file that fits, or {scratch}"
    download = f"hf download {checkpoint} --local-dir FOLDER"
    return f"on a machine with network run `{download}` and set {option}=FOLDER, or {scratch}"


def reason_of(error: BaseException) -> str:
    """Return an error's message for use in a sentence."""
    if isinstance(error, pickle.UnpicklingError):
        # torch's own message advises to execute the pickled objects
        return "it is damaged, or holds pickled objects, which mlrec does not execute"
    return brief(error, MAX_REASON_CHARACTERS)


def load_model(
    skeleton: Any, config: Any, checkpoint: str, encoder: str, needed: Collection[str]
) -> Any:
    """Return a model of Hugging Face with the weights of a checkpoint, in fp32.

    Args:
        skeleton: the model without weights (on the meta device).
        needed: names of its tensors that the checkpoint must have.

    Raises:
        MisfitError: names or shapes differ.
        ValueError: the weights cannot be read, or some are not finite.
    """
    expected = skeleton.state_dict()
    with explained(checkpoint, encoder):
        tensors = backbone_of(read_folder(functools.partial(find_file, checkpoint)), expected)
        check_values(tensors, expected)
    # before from_pretrained, which allocates every tensor that the checkpoint lacks
    _refuse_other_sizes(expected, tensors, needed, checkpoint, encoder)
    with explained(checkpoint, encoder):
        loaded = from_tensors(type(skeleton), config, tensors)
    parts = {name.partition(".")[0] for name in expected}
    misfit = Misfit(
        missing=loaded.missing & set(needed),
        unexpected={name for name in loaded.unexpected if not is_head(name, parts)},
        shapes={name: shape for name, shape in loaded.shapes.items() if name in needed},
        total=len(needed),
    )
    _check_fit(misfit, checkpoint, encoder)
    return loaded.model


def _refuse_other_sizes(
    expected: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    needed: Collection[str],
    checkpoint: str,
    encoder: str,
) -> None:
    """Check that a model is not far larger than its checkpoint.

    transformers would allocate and initialize everything that the checkpoint lacks.

    Raises:
        MisfitError: the model is far larger.
    """
    missing: set[str] = set()
    shapes: dict[str, ShapePair] = {}
    for name in needed:
        if name not in tensors:
            missing.add(name)
        elif tensors[name].shape != expected[name].shape:
            shapes[name] = ShapePair.of(tensors[name], expected[name])
    missing_values = sum(expected[name].numel() for name in (*missing, *shapes))
    # 4 bytes per fp32 value
    if 4 * missing_values > MAX_MISSING_BYTES:
        _check_fit(Misfit(missing, (), shapes, len(needed)), checkpoint, encoder)


class Loaded(NamedTuple):
    """A model and transformers' report on the tensors that it was loaded from."""

    model: Any
    missing: set[str]
    """Names of the model's tensors that were not given; they have random values."""
    unexpected: set[str]
    """Names that the model does not have."""
    shapes: dict[str, ShapePair]
    """Tensors whose shapes differ, by name; they have random values."""


def from_tensors(kind: Any, config: Any, tensors: dict[str, torch.Tensor]) -> Loaded:
    """Load a model of class `kind` from tensors.

    transformers first renames tensors of its older versions, so the report has today's names.
    """
    from transformers.utils import logging

    # restored below, because a user may have set them
    verbosity = logging.get_verbosity()
    bar = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its table of names is the error here
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    options = {"config": config, "state_dict": tensors, "dtype": torch.float32}
    try:
        # None: all tensors come from state_dict, and no file is looked up. Sizes that differ are
        # reported instead of raised, so that one message names all differences.
        model, report = kind.from_pretrained(
            None, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    shapes: dict[str, ShapePair] = {}
    for name, stored, own in report["mismatched_keys"]:
        shapes[name] = ShapePair(tuple(stored), tuple(own))
    return Loaded(model, set(report["missing_keys"]), set(report["unexpected_keys"]), shapes)


def load_row_weights(
    model: nn.Module,
    row: EncoderRow,
    context: EncoderContext,
    architecture: Mapping[str, torch.Tensor],
) -> None:
    """Load the weights that a row names, unless it starts from random ones or a run's.

    Every name and shape must fit.

    Args:
        architecture: tensors of the whole architecture, of which `model` may lack some. The
            checkpoint may have those, in any shape.

    Raises:
        MisfitError: names or shapes differ.
        ValueError: the weights cannot be read, or some are not finite.
    """
    if not row.checkpoint or not context.reads_weights:
        return
    own = model.state_dict()
    with explained(row.checkpoint, context.name):
        tensors = backbone_of(_read_weights(row.checkpoint), architecture)
        # leaves out parts of the architecture that `model` lacks, such as the class scores
        tensors = {
            name: tensor
            for name, tensor in tensors.items()
            if name in own or name not in architecture
        }
        check_values(tensors, own)
    missing: set[str] = set()
    shapes: dict[str, ShapePair] = {}
    for name, tensor in own.items():
        if name not in tensors:
            # files of old torch versions lack the counters, and nothing reads them
            if not name.endswith(UPDATE_COUNTER):
                missing.add(name)
        elif tensors[name].shape != tensor.shape:
            shapes[name] = ShapePair.of(tensors[name], tensor)
    misfit = Misfit(missing, tensors.keys() - own.keys(), shapes, total=len(own))
    _check_fit(misfit, row.checkpoint, context.name)
    # counters that the file lacks stay as they are
    model.load_state_dict(own | tensors)


def _check_fit(misfit: Misfit, checkpoint: str, encoder: str) -> None:
    if misfit:
        raise MisfitError(
            f"the checkpoint {checkpoint!r} does not fit {encoder} with its frames, size and "
            f"config ({misfit.in_words()}); {_remedy(checkpoint, encoder)}"
        )


def _read_weights(checkpoint: str) -> dict[str, torch.Tensor]:
    url = checkpoint
    if not url.endswith(WEIGHTS):
        files: list[str] = []
        for name in storage.list_files(url):
            # subfolders hold other formats or checkpoints of the training
            if "/" not in name and name.endswith(WEIGHTS):
                files.append(name)
        if len(files) != 1:
            raise ValueError(
                f"a file ending in {', '.join(WEIGHTS)} is wanted there, or one in a folder; "
                f"found {files or 'none'}"
            )
        url = storage.join(url, files[0])
    # a local file can be mapped into memory; a remote one must be read first
    if storage.is_local(url):
        return read_file(storage.local_path(url), url)
    return read_file(storage.read_bytes(url), url)
