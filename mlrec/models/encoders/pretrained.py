"""Published weights of Hugging Face models, by name or from a folder."""

from __future__ import annotations

from typing import Any


def load_pretrained(model_class: Any, checkpoint: str, encoder: str, **config: Any) -> Any:
    """`model_class` with the weights of `checkpoint`, its configuration changed by `config`.

    Raises:
        ValueError: the weights are not at hand; the message says what to do about it.
    """
    try:
        return model_class.from_pretrained(checkpoint, use_safetensors=True, **config)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the checkpoint {checkpoint!r} of {encoder} cannot be loaded ({reason}); on a machine with network run "
            f"`hf download {checkpoint} --local-dir FOLDER` and set item.options.{encoder}.checkpoint=FOLDER, "
            "or start from random weights with item.tuning=scratch"
        ) from error
