"""AdamW without the imports of torch.compile."""

from __future__ import annotations

import inspect

import torch


class AdamW(torch.optim.AdamW):
    """torch's AdamW, whose methods do not import torch._dynamo.

    torch wraps two of them for torch.compile, which mlrec does not use. Their first call imports
    torch._dynamo, in 1.2 of the 4.4 CPU seconds before a small run's first step.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    # The wrapper of step also switches gradients off.
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
