"""Hidden states of a frozen encoder's stages, averaged to one vector per item.

The state of a stage is the hidden state that enters the next one; that of the last stage is the
encoder's own vector, or the mean of its rows. Averages run over tokens (of a title: without
padding), over the positions of a feature map, and over frames.

Shape letters: n items, T frames encoded one by one (1 for other encoders), H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder
from mlrec.models.encoders.text import mean_over_tokens
from mlrec.models.frozen_calls import called_parts, tensors_of
from mlrec.models.trial import trial_forward

_TRIAL_ITEMS = 2
"""Items of the trial forward; any number that is neither 1 nor the length of a short title."""


class StageStates(nn.Module):
    """Map an encoder's media to the states of its K stages, from shallow to deep.

    Forward maps the media of n items to K tensors [n, widths[k]], without gradient.
    """

    widths: tuple[int, ...]
    """Width of each stage's states."""

    def __init__(self, encoder: Encoder, name: str) -> None:
        """
        Args:
            name: of the encoder, for messages.

        Raises:
            ValueError: the encoder has no stages, or the state of one cannot be averaged.
        """
        super().__init__()
        self.encoder = encoder
        self.spec: InputSpec = encoder.spec
        self._name = name
        # of the stages after the first; a hook on them gets the state of the one before
        self._entries: list[list[nn.Module]] = []
        stages = encoder.stages()
        if not stages:
            raise ValueError(f"{name} has no stages, because it looks vectors up")
        for stage in stages[1:]:
            self._entries.append(list(called_parts(stage)))
        self.widths = self._find_widths()

    @torch.no_grad()
    def forward(self, media: torch.Tensor) -> list[torch.Tensor]:
        states: dict[int, torch.Tensor] = {}
        handles = []
        for stage, modules in enumerate(self._entries):
            record = self._recorder(states, stage, media)
            for module in modules:
                handles.append(module.register_forward_pre_hook(record, with_kwargs=True))
        try:
            vectors = self.encoder(media)
        finally:
            # other forwards of the encoder record nothing
            for handle in handles:
                handle.remove()
        for stage in range(len(self._entries)):
            if stage not in states:
                raise ValueError(
                    f"{self._name} has no state after stage {stage}, because the next stage does "
                    "not run as a module"
                )
        if self.encoder.rows:
            vectors = vectors.mean(dim=1)
        return [states[stage] for stage in range(len(self._entries))] + [vectors]

    def _recorder(
        self, states: dict[int, torch.Tensor], stage: int, media: torch.Tensor
    ) -> Callable[..., None]:
        """Return a hook that averages what enters the stage after `stage`, at its first call."""

        def record(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            # A shared block may run several times. The modules after a block have hooks too.
            if stage in states:
                return
            # averaged at once, so that memory holds no stage's tokens
            state = arguments[0] if arguments else next(iter(options.values()))
            states[stage] = self._averaged(state, media, stage)

        return record

    def _averaged(self, state: Any, media: torch.Tensor, stage: int) -> torch.Tensor:
        """Return the means [n, width] of a stage's hidden state."""
        mask = media[:, 1] if self.spec.modality is Modality.TITLE else None
        means = []
        try:
            # SlowFast's state is a list with one tensor per pathway
            for tensor in tensors_of(state):
                means.append(_mean_per_item(tensor, len(media), mask))
        except ValueError as error:
            raise ValueError(
                f"{self._name} has no average state after stage {stage}: {error}"
            ) from error
        return torch.cat(means, dim=1)

    def _find_widths(self) -> tuple[int, ...]:
        """Return the widths of the states, which a trial forward finds out."""
        is_training = self.encoder.training
        # dropout would change no width, but batch norms would count these items
        states = trial_forward(self.eval(), self.spec, _TRIAL_ITEMS)
        self.train(is_training)
        return tuple(state.shape[1] for state in states)


def _mean_per_item(state: torch.Tensor, count: int, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the means [count, width] of a hidden state of `count` items.

    Args:
        state: [n * T, width], [n * T, tokens, width] or a feature map [n * T, width, ..., H, W].
        mask: int64 [n, tokens] with 1 for the tokens to average; None for all.

    Raises:
        ValueError: it has another shape.
    """
    shape = list(state.shape)
    if not shape[0] or shape[0] % count:
        raise ValueError(f"its shape {shape} does not begin with the number of items")
    if state.ndim == 3 and mask is not None:
        if mask.shape != state.shape[:2]:
            raise ValueError(f"its shape {shape} has another number of tokens than the title")
        state = mean_over_tokens(state, mask)
    elif state.ndim == 3:
        state = state.mean(dim=1)
    elif state.ndim > 3:
        # inputs are square, so a last dimension of another size holds channels
        if shape[-1] != shape[-2]:
            raise ValueError(f"its shape {shape} is no feature map with channels first")
        state = state.flatten(2).mean(dim=2)
    # the frames of an item are neighbours
    return state.view(count, -1, state.shape[1]).mean(dim=1)
